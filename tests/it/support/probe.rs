//! Looking into a test's database, and waiting for what becomes true there.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use tokio::time::Instant;

use super::postgres::connect;
use super::{Person, TestHub};

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl TestHub {
    /// The one number that `query` gives.
    pub async fn number(&self, query: &str) -> i64 {
        let mut conn = connect(&self.database_url).await;
        let sql = format!("SELECT ({query})::bigint AS n");
        diesel::sql_query(sql).get_result::<Number>(&mut conn).await.unwrap().n
    }

    /// Changes what is stored, where there is no route for it.
    pub async fn execute(&self, statement: &str) -> usize {
        let mut conn = connect(&self.database_url).await;
        diesel::sql_query(statement).execute(&mut conn).await.unwrap()
    }

    /// Gives `person` a device, of which no push service knows.
    pub async fn with_device(&self, person: &Person) {
        let insert = format!(
            "INSERT INTO devices (id, user_id, kind, address)
             VALUES (gen_random_uuid(), '{0}', 'fcm', 'device of {0}')",
            person.id
        );
        self.execute(&insert).await;
    }

    /// Waits until `query` gives `wanted`.
    #[track_caller]
    pub fn becomes(&self, query: &str, wanted: i64) -> impl Future<Output = ()> {
        let from = std::panic::Location::caller();
        async move {
            let until = Instant::now() + Duration::from_secs(20);
            loop {
                let found = self.number(query).await;
                if found == wanted {
                    return;
                }
                assert!(Instant::now() < until, "{from}: {query} stays {found}, not {wanted}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
