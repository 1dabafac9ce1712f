//! What a new account must look like.

use secrecy::{ExposeSecret, SecretString};

use crate::domain::refusal::{Problems, Refusal};
use crate::services::users::{PHONE_RULE, is_phone};

/// A registration.
#[derive(Debug)]
pub struct Registration {
    pub email: String,
    pub password: SecretString,
    pub first_name: String,
    pub last_name: String,
    pub phone: Option<String>,
    /// `seeker` or `practitioner`; administrators are made by the operator.
    pub user_type: String,
}

/// Checks a registration and returns its e-mail in lower case.
pub(super) fn check_registration(new: &Registration) -> Result<String, Refusal> {
    let mut problems = Problems::default();
    let email = new.email.trim().to_lowercase();
    problems.require(is_email(&email), "email", "must be an e-mail address");
    let length = new.password.expose_secret().len();
    // bcrypt ignores what comes after 72 bytes; a longer password would be weaker than it looks.
    problems.require((8..=72).contains(&length), "password", "must have 8 to 72 bytes");
    let nul_free = !new.password.expose_secret().contains('\0');
    problems.require(nul_free, "password", "must not contain NUL");
    problems.length("firstName", &new.first_name, 1, 100);
    problems.length("lastName", &new.last_name, 1, 100);
    let known = matches!(new.user_type.as_str(), "seeker" | "practitioner");
    problems.require(known, "userType", "must be seeker or practitioner");
    if let Some(phone) = &new.phone {
        problems.require(is_phone(phone), "phone", PHONE_RULE);
    }
    problems.into_result().map(|()| email)
}

/// Whether `text` has the form of an address that mail can be sent to: one `@`, a domain with a
/// dot, no spaces or control characters, at most 254 bytes (RFC 5321 section 4.5.3.1.3).
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let labels_ok = domain.split('.').all(|label| !label.is_empty());
    text.len() <= 254
        && !local.is_empty()
        && local.len() <= 64
        && domain.contains('.')
        && labels_ok
        && !domain.contains('@')
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mail_can_reach() {
        for good in ["a@b.in", "meera.iyer+x@mail.example.co.in"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "a@b", "@b.in", "a@.in", "a@b..in", "a b@c.in", "a@b@c.in", "a@b.in\0"]
        {
            assert!(!is_email(bad), "{bad}");
        }
    }
}
