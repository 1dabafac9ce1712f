//! Looking at what is stored, as text, whatever its type.

use std::collections::BTreeMap;

use tokio_postgres::{NoTls, SimpleQueryMessage};

/// The rows that `sql` gives, every value as text.
pub async fn rows(url: &str, sql: &str) -> Vec<Vec<Option<String>>> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    drop(client);
    driver.await.unwrap().unwrap();
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).map(ToOwned::to_owned)).collect())
        }
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// The first column of every row that `sql` gives; NULL reads as an empty text.
pub async fn column(url: &str, sql: &str) -> Vec<String> {
    let first = |row: Vec<Option<String>>| row.into_iter().next().flatten().unwrap_or_default();
    rows(url, sql).await.into_iter().map(first).collect()
}

/// The number that `sql` gives.
pub async fn number(url: &str, sql: &str) -> i64 {
    column(url, sql).await[0].parse().unwrap()
}

/// A fingerprint of every table's rows, to show that a refused request changed nothing.
pub async fn contents(url: &str) -> BTreeMap<String, String> {
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'";
    let mut contents = BTreeMap::new();
    for table in column(url, tables).await {
        let sql = format!(
            "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '')
               FROM {table} t"
        );
        contents.insert(table, column(url, &sql).await.remove(0));
    }
    contents
}

/// How many rows `from` (a table, with or without a condition) has.
pub async fn count(url: &str, from: &str) -> usize {
    number(url, &format!("SELECT count(*) FROM {from}")).await.try_into().unwrap()
}

/// Carries out a statement, to put there what the API never would; returns how many rows it
/// touched.
pub async fn run(url: &str, sql: &str) -> usize {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let touched = client.execute(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    drop(client);
    driver.await.unwrap().unwrap();
    touched.try_into().unwrap()
}
