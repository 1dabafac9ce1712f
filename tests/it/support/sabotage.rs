//! Taking guards away, and making time pass where it hurts, for one database of the tests and all
//! that connects to it from then on. The hub has no switch for this: its own code runs, and the
//! database lets it down.

use tokio_postgres::NoTls;

use super::rows;

async fn batch(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
}

/// Lets bookings overlap.
pub async fn constraint_off(url: &str) {
    batch(url, "ALTER TABLE bookings DROP CONSTRAINT bookings_no_overlap").await;
}

/// Advisory locks are found before PostgreSQL's own, and lock nothing. They count how often they
/// were asked, so that a test can tell whether it took away what the hub relies on.
pub async fn advisory_lock_off(url: &str) {
    let database = url.rsplit('/').next().unwrap();
    let sql = format!(
        "CREATE SEQUENCE locks_not_taken;
         CREATE FUNCTION public.pg_advisory_xact_lock(key bigint) RETURNS void
           LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.locks_not_taken'); END $$;
         ALTER DATABASE {database} SET search_path = public, pg_catalog"
    );
    batch(url, &sql).await;
}

/// How many locks were asked for and not given.
pub async fn locks_not_taken(url: &str) -> i64 {
    rows::number(url, "SELECT last_value * is_called::int FROM locks_not_taken").await
}

/// Every new row of `bookings` waits before it is inserted, after whatever was checked before.
pub async fn slow_insert(url: &str, milliseconds: u32) {
    let sql = format!(
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_sleep({milliseconds} / 1000.0); RETURN NEW; END $$;
         CREATE TRIGGER linger BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION linger()"
    );
    batch(url, &sql).await;
}

/// Every transaction with a new row of `bookings` waits at its end, before it is committed.
pub async fn slow_commit(url: &str, milliseconds: u32) {
    let sql = format!(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_sleep({milliseconds} / 1000.0); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON bookings DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION dawdle()"
    );
    batch(url, &sql).await;
}

/// Transactions see what was committed before their first statement, and nothing later.
pub async fn repeatable_read(url: &str) {
    let database = url.rsplit('/').next().unwrap();
    let level = "default_transaction_isolation = 'repeatable read'";
    batch(url, &format!("ALTER DATABASE {database} SET {level}")).await;
}

/// Two transactions that take the same locks in opposite order: what the log must show.
pub async fn deadlock(url: &str) {
    let mut conns = Vec::new();
    for first in [1, 2] {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let begin = "SET deadlock_timeout = '10ms'; BEGIN; SELECT pg_advisory_xact_lock";
        client.batch_execute(&format!("{begin}({first})")).await.unwrap();
        conns.push(client);
    }
    let then = |client: usize, key: i32| {
        let client = &conns[client];
        async move { client.batch_execute(&format!("SELECT pg_advisory_xact_lock({key})")).await }
    };
    let (one, two) = tokio::join!(then(0, 2), then(1, 1));
    assert!(one.is_err() != two.is_err());
}

/// No answer to an `Idempotency-Key` is kept: who wants to keep one waits for a long time.
pub async fn answers_stuck(url: &str) {
    let sql = "CREATE FUNCTION stick() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_sleep(14); RETURN NULL; END $$;
         CREATE TRIGGER stick BEFORE UPDATE OF status ON idempotency_keys
           FOR EACH ROW EXECUTE FUNCTION stick()";
    batch(url, sql).await;
}

/// How many of them wait.
pub async fn stuck(url: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event = 'PgSleep'";
    rows::number(url, sql).await
}

/// The end of it; those who wait keep nothing.
pub async fn unstick(url: &str) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event = 'PgSleep';
               DROP TRIGGER stick ON idempotency_keys";
    batch(url, sql).await;
}
