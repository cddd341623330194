use std::{fs, path::Path};

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{
        AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse,
    },
};

use super::{SECRET_BYTES, TokenConfig};

/// A shorter RSA modulus is refused (RFC 7518, 3.3).
const RSA_BYTES: usize = 256;

/// A key with the one algorithm that it may be used with.
pub(super) struct Key {
    /// `None` for the secret of a file of its own.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Reads an HS256 secret: the bytes of the file without one line end. Fails below 32 bytes.
pub fn read_secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut secret =
        fs::read(path).with_context(|| format!("read the secret {}", path.display()))?;
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    ensure!(
        secret.len() >= SECRET_BYTES,
        "the secret {} has {} bytes, at least {SECRET_BYTES} are needed: \
         make one with `openssl rand -hex 32`",
        path.display(),
        secret.len()
    );
    Ok(secret)
}

/// All keys of a configuration, at least one.
pub(super) fn load(config: &TokenConfig) -> anyhow::Result<Vec<Key>> {
    let mut keys = Vec::new();
    if let Some(path) = &config.jwt_secret_file {
        keys.push(Key {
            id: None,
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(&read_secret(path)?),
        });
    }
    if let Some(path) = &config.jwks_file {
        keys.extend(
            read_set(path).with_context(|| format!("read the key set {}", path.display()))?,
        );
    }
    ensure!(
        !keys.is_empty(),
        "no key to check tokens with: give --jwt-secret-file or --jwks-file"
    );
    Ok(keys)
}

fn read_set(path: &Path) -> anyhow::Result<Vec<Key>> {
    let set: JwkSet = serde_json::from_slice(&fs::read(path)?)?;
    let mut keys: Vec<Key> = Vec::new();
    for (index, jwk) in set.keys.iter().enumerate() {
        let name = jwk.common.key_id.as_deref().unwrap_or("without kid");
        let Some(key) = read_key(jwk).with_context(|| format!("key {index} ({name})"))? else {
            tracing::info!(
                key.index = index,
                key.id = name,
                "key is not for signatures"
            );
            continue;
        };
        ensure!(
            keys.iter().all(|other| other.id != key.id),
            "key {index}: two keys have the id {name}"
        );
        keys.push(key);
    }
    ensure!(!keys.is_empty(), "no key in it is for signatures");
    Ok(keys)
}

/// `None` for a key that is for something else or of a kind that we do not know (RFC 7517, 5).
fn read_key(jwk: &Jwk) -> anyhow::Result<Option<Key>> {
    let common = &jwk.common;
    if matches!(&common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature) {
        return Ok(None);
    }
    if matches!(&common.key_operations, Some(all) if !all.contains(&KeyOperations::Verify)) {
        return Ok(None);
    }
    let Some(algorithm) = algorithm(jwk)? else {
        return Ok(None);
    };
    let id = common.key_id.clone();
    ensure!(id.is_some(), "a key of a set needs a `kid`");
    let key = DecodingKey::from_jwk(jwk).context("read the key's numbers")?;
    Ok(Some(Key { id, algorithm, key }))
}

/// The one algorithm of a key: its `alg`, which must fit its type, or its type's usual one.
fn algorithm(jwk: &Jwk) -> anyhow::Result<Option<Algorithm>> {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512};
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    // The first one is what a key without `alg` gets.
    let fitting: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let bytes = bytes_of(&rsa.n)?;
            ensure!(
                bytes >= RSA_BYTES,
                "RSA below {} bits is refused",
                RSA_BYTES * 8
            );
            &[RS256, RS384, RS512, PS256, PS384, PS512]
        }
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => &[ES256],
            EllipticCurve::P384 => &[ES384],
            _ => return Ok(None),
        },
        AlgorithmParameters::OctetKeyPair(okp) => match okp.curve {
            EllipticCurve::Ed25519 => &[EdDSA],
            _ => return Ok(None),
        },
        AlgorithmParameters::OctetKey(secret) => {
            let bytes = bytes_of(&secret.value)?;
            ensure!(
                bytes >= SECRET_BYTES,
                "an octet key needs {SECRET_BYTES} bytes"
            );
            &[HS256, HS384, HS512]
        }
        _ => return Ok(None),
    };
    let Some(named) = jwk.common.key_algorithm else {
        return Ok(fitting.first().copied());
    };
    let named = match named {
        KeyAlgorithm::HS256 => HS256,
        KeyAlgorithm::HS384 => HS384,
        KeyAlgorithm::HS512 => HS512,
        KeyAlgorithm::ES256 => ES256,
        KeyAlgorithm::ES384 => ES384,
        KeyAlgorithm::RS256 => RS256,
        KeyAlgorithm::RS384 => RS384,
        KeyAlgorithm::RS512 => RS512,
        KeyAlgorithm::PS256 => PS256,
        KeyAlgorithm::PS384 => PS384,
        KeyAlgorithm::PS512 => PS512,
        KeyAlgorithm::EdDSA => EdDSA,
        // Encryption, or newer than this build.
        _ => return Ok(None),
    };
    if !fitting.contains(&named) {
        bail!("`alg` {named:?} does not fit the key's type");
    }
    Ok(Some(named))
}

fn bytes_of(base64url: &str) -> anyhow::Result<usize> {
    let bytes = URL_SAFE_NO_PAD
        .decode(base64url)
        .context("decode base64url")?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes.len() - zeros)
}
