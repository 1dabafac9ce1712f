//! Users by the hundred: put into the database, since the hub lets nobody register thousands. So are
//! conversations where the hub would not make them, of thousands or of strangers.

use hub::services::auth::Claims;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{EncodingKey, Header};
use uuid::Uuid;

use super::history::Channel;
use crate::support::node::SECRET;
use crate::support::{Person, rows};

/// A user who is logged in.
#[derive(Debug, Clone)]
pub struct User {
    pub id: Uuid,
    pub token: String,
}

impl User {
    /// As others of the tests know them; without what only logging in gives.
    pub fn person(&self) -> Person {
        let (id, token) = (self.id.to_string(), self.token.clone());
        let (email, refresh_token, session_id) = (String::new(), String::new(), String::new());
        Person { id, email, token, refresh_token, session_id }
    }
}

fn id(kind: u32, n: usize) -> Uuid {
    Uuid::from_fields(kind, 0, 0x7000, &(0x8000_0000_0000_0000 | n as u64).to_be_bytes())
}

/// `count` seekers.
pub async fn seekers(url: &str, count: usize) -> Vec<User> {
    let id_sql = "('c0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid";
    let from = format!("FROM generate_series(1, {count}) n");
    for sql in [
        format!(
            "INSERT INTO users (id, email, first_name, last_name, user_type)
             SELECT {id_sql}, 'seeker.' || n || '@example.in', 'Seeker', 'Test', 'seeker' {from}"
        ),
        format!("INSERT INTO user_channels (user_id) SELECT {id_sql} {from}"),
        format!("INSERT INTO sessions (id, user_id) SELECT {id_sql}, {id_sql} {from}"),
        format!(
            "INSERT INTO refresh_tokens (id, session_id, token_hash, expires_at)
             SELECT {id_sql}, {id_sql}, sha256({id_sql}::text::bytea), now() + interval '2 days'
             {from}"
        ),
    ] {
        rows::run(url, &sql).await;
    }
    (1..=count).map(|n| User { id: id(0xc000_0000, n), token: token(n) }).collect()
}

/// An access token as the hub would have signed it for the `n`th seeker.
fn token(n: usize) -> String {
    let (now, id) = (Timestamp::now(), id(0xc000_0000, n));
    let claims = Claims {
        sub: id,
        email: format!("seeker.{n}@example.in"),
        user_type: "seeker".to_owned(),
        permissions: Vec::new(),
        iat: now.as_second(),
        exp: (now + SignedDuration::from_hours(24)).as_second(),
        jti: id,
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}

/// The `n`th conversation, of these users: of two or of many.
pub async fn conversation(url: &str, n: usize, members: &[&User]) -> Channel {
    let conversation = id(0xd000_0000, n);
    let mut ids: Vec<String> = members.iter().map(|user| user.id.to_string()).collect();
    ids.sort();
    let (kind, key) = match &ids[..] {
        [one, two] => ("direct", format!("'{one}:{two}'")),
        _ => ("group", "NULL".to_owned()),
    };
    let insert = format!(
        "INSERT INTO conversations (id, kind, direct_key) VALUES ('{conversation}', '{kind}', {key})"
    );
    rows::run(url, &insert).await;
    let insert = format!(
        "INSERT INTO conversation_members (conversation_id, user_id)
         SELECT '{conversation}', unnest('{{{}}}'::uuid[])",
        ids.join(",")
    );
    rows::run(url, &insert).await;
    format!("conversation:{conversation}").into()
}
