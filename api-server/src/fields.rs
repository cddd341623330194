use hubbub_protocol::{ErrorBody, ErrorCode, check_json_depth};
use serde_json::{Map, Value};

/// The fields of a small JSON body. An error names the field at fault, as those of a send do;
/// unknown fields are ignored.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn read(body: &[u8]) -> Result<Self, ErrorBody> {
        check_json_depth(body)?;
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            _ => Err(ErrorBody::new(
                ErrorCode::InvalidJson,
                "the body is not a JSON object",
            )),
        }
    }

    /// A string, if it is there and not null.
    pub(crate) fn text(&self, field: &'static str) -> Result<Option<String>, ErrorBody> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(ErrorBody::new(
                ErrorCode::InvalidField,
                format!("{field} must be a string"),
            )
            .field(field)),
        }
    }

    /// A string that must be there.
    pub(crate) fn required_text(&self, field: &'static str) -> Result<String, ErrorBody> {
        self.text(field)?.ok_or_else(|| {
            ErrorBody::new(
                ErrorCode::MissingField,
                format!("{field} is missing: a string"),
            )
            .field(field)
        })
    }

    /// A whole number from 0 that must be there; digits in a string will do.
    pub(crate) fn required_number(&self, field: &'static str) -> Result<u64, ErrorBody> {
        let number = match self.0.get(field) {
            None | Some(Value::Null) => {
                let message = format!("{field} is missing: a number");
                return Err(ErrorBody::new(ErrorCode::MissingField, message).field(field));
            }
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64(),
        };
        let message = || format!("{field} must be a whole number");
        number.ok_or_else(|| ErrorBody::new(ErrorCode::InvalidField, message()).field(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_types_name_their_field() {
        for (body, code, field) in [
            ("", ErrorCode::InvalidJson, None),
            ("[]", ErrorCode::InvalidJson, None),
            ("{}", ErrorCode::MissingField, Some("user")),
            (r#"{"user":null}"#, ErrorCode::MissingField, Some("user")),
            (r#"{"user":7}"#, ErrorCode::InvalidField, Some("user")),
        ] {
            let error = Fields::read(body.as_bytes())
                .and_then(|fields| fields.required_text("user"))
                .expect_err(body);
            let got = (error.code, error.field.as_deref());
            assert_eq!(got, (code, field), "{body}");
        }
        let fields = Fields::read(br#"{"user":"U1","mood":[1]}"#).expect("an object");
        assert_eq!(fields.text("user"), Ok(Some("U1".to_owned())));
        assert_eq!(fields.text("other"), Ok(None));
    }

    #[test]
    fn numbers_are_whole() {
        let fields = Fields::read(br#"{"a":7,"b":"8","c":-1,"d":1.5,"e":"x","f":null}"#);
        let fields = fields.expect("an object");
        assert_eq!(fields.required_number("a"), Ok(7));
        assert_eq!(fields.required_number("b"), Ok(8));
        for (field, code) in [
            ("c", ErrorCode::InvalidField),
            ("d", ErrorCode::InvalidField),
            ("e", ErrorCode::InvalidField),
            ("f", ErrorCode::MissingField),
            ("g", ErrorCode::MissingField),
        ] {
            let error = fields.required_number(field).expect_err(field);
            assert_eq!((error.code, error.field.as_deref()), (code, Some(field)));
        }
    }
}
