use std::io::Write;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::*;
use crate::token::mint;

const NOW: i64 = 1_800_000_000;
const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
/// Keys made for these tests and used nowhere else.
const RSA: &[u8] = include_bytes!("test_keys/rsa.der");
const EC: &[u8] = include_bytes!("test_keys/ec.der");

fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(content).expect("written");
    file
}

fn load(secret: Option<&[u8]>, set: Option<&Value>) -> anyhow::Result<Verifier> {
    let secret = secret.map(file);
    let set = set.map(|set| file(set.to_string().as_bytes()));
    Verifier::load(&TokenConfig {
        jwt_secret_file: secret.as_ref().map(|file| file.path().to_owned()),
        jwks_file: set.as_ref().map(|file| file.path().to_owned()),
        jwt_issuer: "hubbub".to_owned(),
        jwt_audience: "hubbub".to_owned(),
    })
}

fn by_secret() -> Verifier {
    load(Some(SECRET), None).expect("a good secret")
}

fn jwk(key: &EncodingKey, algorithm: Algorithm, id: &str) -> Jwk {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).expect("a key");
    jwk.common.key_id = Some(id.to_owned());
    jwk
}

/// A set with one key of each kind, ids `rsa`, `ec` and `oct`.
fn set() -> Value {
    json!({"keys": [
        jwk(&EncodingKey::from_rsa_der(RSA), Algorithm::RS256, "rsa"),
        jwk(&EncodingKey::from_ec_der(EC), Algorithm::ES256, "ec"),
        {"kty": "oct", "kid": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)},
    ]})
}

fn claims() -> Value {
    json!({"iss": "hubbub", "aud": "hubbub", "sub": "mary", "exp": NOW + 60, "iat": NOW})
}

fn with(changes: Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().expect("an object") {
        all[name] = value.clone();
    }
    all
}

fn without(name: &str) -> Value {
    let mut all = claims();
    all.as_object_mut().expect("an object").remove(name);
    all
}

/// Signs any header and payload with HS256, however wrong they are.
fn sign(header: &str, payload: &str, secret: &[u8]) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", encode(header), encode(payload));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.expect("signed"))
}

fn hs256(payload: &Value) -> String {
    sign(r#"{"alg":"HS256"}"#, &payload.to_string(), SECRET)
}

fn by_key(algorithm: Algorithm, id: &str, key: &EncodingKey) -> String {
    let mut header = Header::new(algorithm);
    header.kid = Some(id.to_owned());
    encode(&header, &claims(), key).expect("signed")
}

#[test]
fn minted_token_is_verified() {
    let token = mint(SECRET, "hubbub", "hubbub", "mary", Some("phone"), NOW, 60).expect("minted");
    let expected = Claims {
        subject: "mary".to_owned(),
        device: Some("phone".parse().expect("a device id")),
        expires_at: NOW + 60,
        issued_at: Some(NOW),
    };
    assert_eq!(by_secret().verify(&token, NOW), Ok(expected));
    let foreign = mint(&[7; 32], "hubbub", "hubbub", "mary", None, NOW, 60).expect("minted");
    assert_eq!(by_secret().verify(&foreign, NOW), Err(TokenError::Invalid));
}

#[test]
fn claims_are_required_typed_and_bounded() {
    use TokenError::{Expired, Invalid, Malformed};
    let accepted = [
        claims(),
        without("iat"),
        with(json!({"aud": ["other", "hubbub"]})),
        with(json!({"exp": NOW - 29})),
        with(json!({"exp": (NOW + 60) as f64 + 0.5})),
        with(json!({"exp": u64::MAX})),
        with(json!({"iat": NOW + 30, "nbf": NOW + 30})),
        with(json!({"sub": "s".repeat(255), "scope": "unknown claims are ignored"})),
    ];
    for claims in accepted {
        let result = by_secret().verify(&hs256(&claims), NOW);
        assert!(result.is_ok(), "{claims}: {result:?}");
    }
    let refused = [
        (without("exp"), Malformed),
        (without("iss"), Malformed),
        (without("aud"), Malformed),
        (without("sub"), Malformed),
        (with(json!({"exp": (NOW + 60).to_string()})), Malformed),
        (with(json!({"exp": null})), Malformed),
        (with(json!({"iat": "now"})), Malformed),
        (with(json!({"iat": null})), Malformed),
        (with(json!({"nbf": true})), Malformed),
        (with(json!({"sub": ""})), Malformed),
        (with(json!({"sub": "a\u{0}b"})), Malformed),
        (with(json!({"sub": "s".repeat(256)})), Malformed),
        (with(json!({"sub": 7})), Malformed),
        (with(json!({"device": "no spaces"})), Malformed),
        (with(json!({"exp": NOW - 30})), Expired),
        (with(json!({"exp": -1})), Expired),
        (with(json!({"exp": -1e300})), Expired),
        (with(json!({"iat": NOW + 31})), Invalid),
        (with(json!({"nbf": NOW + 31})), Invalid),
        (with(json!({"iss": "other"})), Invalid),
        (with(json!({"iss": ["hubbub"]})), Malformed),
        (with(json!({"aud": "other"})), Invalid),
        (with(json!({"aud": []})), Invalid),
        (with(json!({"aud": "hubbub-staging"})), Invalid),
    ];
    for (claims, error) in refused {
        let result = by_secret().verify(&hs256(&claims), NOW);
        assert_eq!(result, Err(error), "{claims}");
    }
}

#[test]
fn a_claim_that_is_there_twice_is_refused() {
    let twice = claims().to_string().replacen('{', r#"{"sub":"john","#, 1);
    let token = sign(r#"{"alg":"HS256"}"#, &twice, SECRET);
    assert_eq!(by_secret().verify(&token, NOW), Err(TokenError::Malformed));
    let header = r#"{"alg":"HS256","alg":"HS256"}"#;
    let token = sign(header, &claims().to_string(), SECRET);
    assert_eq!(by_secret().verify(&token, NOW), Err(TokenError::Malformed));
}

#[test]
fn header_cannot_choose_algorithm_key_or_type() {
    use TokenError::{Invalid, Malformed};
    for (header, expected) in [
        (r#"{"alg":"HS256","typ":"JWT"}"#, Ok(())),
        (r#"{"alg":"HS256","typ":"at+JWT"}"#, Ok(())),
        (r#"{"alg":"HS256","typ":"application/at+jwt"}"#, Ok(())),
        (r#"{"alg":"HS256","typ":"dpop+jwt"}"#, Err(Invalid)),
        (r#"{"alg":"none"}"#, Err(Malformed)),
        (r#"{"alg":"None"}"#, Err(Malformed)),
        (r#"{"alg":"nOnE"}"#, Err(Malformed)),
        (r#"{"alg":"hs256"}"#, Err(Malformed)),
        (r#"{"alg":"HS384"}"#, Err(Invalid)),
        (r#"{"alg":"RS256"}"#, Err(Invalid)),
        (r#"{"typ":"JWT"}"#, Err(Malformed)),
        (r#"{"alg":"HS256","kid":"other"}"#, Err(Invalid)),
        (r#"{"alg":"HS256","kid":"../../x"}"#, Err(Invalid)),
        (r#"{"alg":"HS256","jku":"http://127.0.0.1/"}"#, Err(Invalid)),
        (r#"{"alg":"HS256","x5u":"http://127.0.0.1/"}"#, Err(Invalid)),
        (
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            Err(Invalid),
        ),
        (
            r#"{"alg":"HS256","jwk":{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}}"#,
            Err(Invalid),
        ),
        ("[]", Err(Malformed)),
        ("", Err(Malformed)),
    ] {
        let token = sign(header, &claims().to_string(), SECRET);
        let result = by_secret().verify(&token, NOW).map(|_| ());
        assert_eq!(result, expected, "{header}");
    }
}

#[test]
fn token_of_a_wrong_shape_is_refused() {
    let good = hs256(&claims());
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let (header, payload) = message.split_once('.').expect("two parts");
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let refused = [
        String::new(),
        "..".to_owned(),
        message.to_owned(),
        format!("{message}."),
        format!("{none}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        good[..good.len() - 1].to_owned(),
        good[..good.len() - 4].to_owned(),
        format!("{good}.x"),
        format!("{header}.{}.{signature}", &payload[4..]),
        format!("{good}="),
        format!("{good} "),
        "x".repeat(64 * 1024),
        hs256(&with(json!({"pad": "x".repeat(64 * 1024)}))),
    ];
    for token in refused {
        let result = by_secret().verify(&token, NOW);
        let refused = matches!(result, Err(TokenError::Invalid | TokenError::Malformed));
        assert!(refused, "{result:?}: {token:.200}");
    }
}

#[test]
fn key_set_serves_each_kind_by_its_kid() {
    let verifier = load(None, Some(&set())).expect("a good set");
    let rsa = EncodingKey::from_rsa_der(RSA);
    let ec = EncodingKey::from_ec_der(EC);
    let oct = EncodingKey::from_secret(SECRET);
    for token in [
        by_key(Algorithm::RS256, "rsa", &rsa),
        by_key(Algorithm::ES256, "ec", &ec),
        by_key(Algorithm::HS256, "oct", &oct),
    ] {
        assert!(verifier.verify(&token, NOW).is_ok());
    }
    for token in [
        by_key(Algorithm::RS256, "ec", &rsa),
        by_key(Algorithm::RS256, "none", &rsa),
        by_key(Algorithm::RS384, "rsa", &rsa),
        by_key(Algorithm::HS256, "rsa", &oct),
        by_key(Algorithm::HS512, "oct", &oct),
        hs256(&claims()),
    ] {
        assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Invalid));
    }
}

#[test]
fn public_rsa_key_is_no_hmac_secret() {
    let set = set();
    let verifier = load(None, Some(&set)).expect("a good set");
    let modulus = set["keys"][0]["n"].as_str().expect("a modulus");
    let decoded = URL_SAFE_NO_PAD.decode(modulus).expect("base64url");
    for secret in [decoded.as_slice(), modulus.as_bytes()] {
        let header = r#"{"alg":"HS256","kid":"rsa"}"#;
        let token = sign(header, &claims().to_string(), secret);
        assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Invalid));
    }
}

#[test]
fn secret_and_set_work_side_by_side() {
    let verifier = load(Some(SECRET), Some(&set())).expect("both good");
    let rsa = by_key(Algorithm::RS256, "rsa", &EncodingKey::from_rsa_der(RSA));
    assert!(verifier.verify(&rsa, NOW).is_ok());
    assert!(verifier.verify(&hs256(&claims()), NOW).is_ok());
    let shown = format!("{verifier:?}");
    assert!(
        shown.contains("rsa") && !shown.contains("0123456789"),
        "{shown}"
    );
}

#[test]
fn weak_or_unusable_keys_stop_the_start() {
    let refused = |secret: Option<&[u8]>, set: Option<Value>, part: &str| {
        let error = load(secret, set.as_ref()).expect_err("refused");
        let error = format!("{error:#}");
        assert!(error.contains(part), "{error}");
    };
    refused(None, None, "--jwt-secret-file or --jwks-file");
    refused(Some(&SECRET[1..]), None, "31 bytes");
    refused(
        Some(b"0123456789abcdef0123456789abcde\n"),
        None,
        "openssl rand",
    );
    let keys = |key: Value| Some(json!({"keys": [key]}));
    let short = URL_SAFE_NO_PAD.encode(&SECRET[1..]);
    refused(
        None,
        keys(json!({"kty": "oct", "kid": "a", "k": short})),
        "32 bytes",
    );
    let weak = URL_SAFE_NO_PAD.encode([255u8; 255]);
    refused(
        None,
        keys(json!({"kty": "RSA", "kid": "a", "n": weak, "e": "AQAB"})),
        "2048",
    );
    let mut key = set()["keys"][0].clone();
    key["alg"] = json!("ES256");
    refused(None, keys(key), "does not fit");
    let mut key = set()["keys"][0].clone();
    key.as_object_mut().expect("an object").remove("kid");
    refused(None, keys(key), "`kid`");
    let mut key = set()["keys"][0].clone();
    key["use"] = json!("enc");
    refused(None, keys(key), "no key in it");
    let key = set()["keys"][0].clone();
    refused(None, Some(json!({"keys": [key, key]})), "two keys");
    refused(None, Some(json!([])), "read the key set");
}

#[test]
fn one_line_end_after_the_secret_is_dropped() {
    for end in ["", "\n", "\r\n"] {
        let content = [SECRET.as_slice(), end.as_bytes()].concat();
        let verifier = load(Some(&content), None).expect("a good secret");
        assert!(verifier.verify(&hs256(&claims()), NOW).is_ok());
    }
}
