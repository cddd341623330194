//! Each rule of the feed can be taken out in the tests, one at a time, to show that the model
//! notices. Elsewhere a rule is the constant `true` and costs nothing.

/// Whether the named rule holds: always, except in a test that has taken it out.
#[cfg(not(test))]
macro_rules! rule {
    ($name:ident) => {
        true
    };
}

#[cfg(test)]
macro_rules! rule {
    ($name:ident) => {
        $crate::feed::model::rules::holds($crate::feed::model::rules::Rule::$name)
    };
}
