//! Access tokens: JWTs (RFC 7519) signed with HS256, with exactly the claims of section 6.1.

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::access::Role;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::models::users::User;

/// The claims of an access token.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claims {
    /// The user's id.
    pub sub: Uuid,
    pub email: String,
    pub user_type: String,
    /// For apps to show or hide things; the hub decides by its own table.
    pub permissions: Vec<String>,
    /// Issued at, in seconds since 1970.
    pub iat: i64,
    /// Runs out at, in seconds since 1970.
    pub exp: i64,
    /// Leads to the session, and so to revocation.
    pub jti: Uuid,
}

/// How tokens are made.
pub struct TokenRules {
    /// Signs access tokens. At least 32 bytes (RFC 7518 section 3.2); all nodes share it.
    pub secret: SecretString,
    /// How long an access token is good.
    pub access_ttl: SignedDuration,
    /// How long a refresh token is good.
    pub refresh_ttl: SignedDuration,
}

impl TokenRules {
    /// Signs the access token `jti` of `user` at `now`; also tells when it runs out.
    pub(super) fn sign(
        &self,
        user: &User,
        jti: Uuid,
        now: Timestamp,
    ) -> Result<(SecretString, Timestamp)> {
        let role = Role::parse(&user.user_type)
            .ok_or_else(|| Error::Fault("stored user type".to_owned()))?;
        let iat = now.as_second();
        let exp = iat.saturating_add(self.access_ttl.as_secs());
        let claims = Claims {
            sub: user.id,
            email: user.email.clone(),
            user_type: user.user_type.clone(),
            permissions: role.permissions(),
            iat,
            exp,
            jti,
        };
        let key = EncodingKey::from_secret(self.secret.expose_secret().as_bytes());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
            .map_err(|e| Error::Fault(format!("jwt: {e}")))?;
        Ok((token.into(), Timestamp::from_second(exp).unwrap_or(Timestamp::MAX)))
    }

    /// Reads `token` at `now`: its signature, its algorithm, its claims, its end.
    pub(super) fn verify(
        &self,
        token: &str,
        now: Timestamp,
    ) -> std::result::Result<Claims, Refusal> {
        let mut rules = Validation::new(Algorithm::HS256);
        // The crate would read the system's clock; ours is a parameter.
        rules.validate_exp = false;
        rules.validate_aud = false;
        rules.set_required_spec_claims::<&str>(&[]);
        let key = DecodingKey::from_secret(self.secret.expose_secret().as_bytes());
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &rules)
            .map_err(|_| Refusal::Unauthenticated)?
            .claims;
        if claims.exp <= now.as_second() { Err(Refusal::TokenExpired) } else { Ok(claims) }
    }
}
