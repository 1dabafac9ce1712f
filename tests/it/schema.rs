//! The schema: migrations both ways, Diesel's tables, the architecture document's section 4.1.

use std::collections::{BTreeMap, BTreeSet};

use hub::domain::booking::Status;
use hub::models::migrations::{self, Direction};
use hub::models::violation::Violation;

use crate::support::{Person, TestHub, postgres, rows};

/// Everything that the catalog says of the schema, one line each.
async fn snapshot(url: &str) -> Vec<String> {
    let queries = [
        "SELECT concat_ws(' ', 'column', table_name, ordinal_position, column_name, udt_name,
                character_maximum_length, is_nullable, column_default, generation_expression)
           FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
           FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
        "SELECT concat_ws(' ', 'index', indexdef) FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(oid)) FROM pg_trigger
          WHERE NOT tgisinternal",
        "SELECT concat_ws(' ', 'function', p.proname, p.prosrc) FROM pg_proc p
          WHERE p.pronamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')",
        "SELECT concat_ws(' ', 'extension', extname) FROM pg_extension",
    ];
    let mut lines = Vec::new();
    for query in queries {
        let query = format!("{query} ORDER BY 1");
        lines.extend(rows::column(url, &query).await);
    }
    lines
}

async fn walk(url: &str, direction: Direction) -> Vec<String> {
    migrations::run(postgres::connect(url).await, direction).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_up_down_and_up_again() {
    let url = postgres::empty();
    let bare = snapshot(&url).await;
    let up = walk(&url, Direction::Up).await;
    assert_eq!(up.len(), std::fs::read_dir("migrations").unwrap().count());
    assert_eq!(migrations::pending(postgres::connect(&url).await).await.unwrap(), 0);
    assert_eq!(walk(&url, Direction::Up).await, [""; 0]);
    let first = snapshot(&url).await;
    assert!(first.len() > 200, "{}", first.len());

    let mut down = walk(&url, Direction::Down).await;
    down.reverse();
    assert_eq!(down, up);
    let left: Vec<_> = snapshot(&url)
        .await
        .into_iter()
        .filter(|line| !bare.contains(line) && !line.contains("__diesel_schema_migrations"))
        .collect();
    assert_eq!(left, [""; 0], "only the table of the migrations may stay");

    assert_eq!(walk(&url, Direction::Up).await, up);
    assert_eq!(snapshot(&url).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_that_start_at_once_migrate_once() {
    let url = postgres::empty();
    let (a, b) = tokio::join!(walk(&url, Direction::Up), walk(&url, Direction::Up));
    let mut counts = [a.len(), b.len()];
    counts.sort_unstable();
    assert_eq!(counts, [0, std::fs::read_dir("migrations").unwrap().count()]);
}

/// A table as `src/models/schema.rs` has it.
#[derive(Debug, PartialEq, Eq)]
struct Table {
    key: Vec<String>,
    /// Columns with their types, such as `Nullable<Varchar>`.
    columns: BTreeMap<String, String>,
}

fn diesels_tables() -> BTreeMap<String, Table> {
    let source = include_str!("../../src/models/schema.rs");
    let mut tables = BTreeMap::new();
    for block in source.split("diesel::table! {").skip(1) {
        let block = block.split("\n}").next().unwrap();
        let mut lines =
            block.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//"));
        let head = lines.next().unwrap();
        let (name, key) = head.split_once(" (").unwrap();
        let key = key.split(')').next().unwrap().split(", ").map(ToOwned::to_owned).collect();
        let columns = lines
            .filter_map(|line| line.trim_end_matches(',').split_once(" -> "))
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect();
        tables.insert(name.to_owned(), Table { key, columns });
    }
    tables
}

/// Diesel's name of a type of PostgreSQL.
fn diesel_type(udt: &str) -> &str {
    match udt {
        "uuid" => "Uuid",
        "varchar" => "Varchar",
        "text" => "Text",
        "int2" => "Int2",
        "int4" => "Int4",
        "int8" => "Int8",
        "bool" => "Bool",
        "numeric" => "Numeric",
        "date" => "Date",
        "timestamptz" => "Timestamptz",
        "json" => "Json",
        "jsonb" => "Jsonb",
        "bytea" => "Bytea",
        "_text" => "Array<Text>",
        other => other,
    }
}

#[tokio::test]
async fn diesel_knows_the_tables_as_they_are() {
    let url = postgres::migrated();
    let mut stored: BTreeMap<String, Table> = BTreeMap::new();
    // A generated column is never written, and Diesel need not know it; it reads this one.
    let columns = "SELECT c.table_name, c.column_name, c.udt_name, c.is_nullable
         FROM information_schema.columns c
        WHERE c.table_schema = 'public' AND (c.is_generated = 'NEVER' OR c.column_name = 'blocks')
          AND c.table_name <> '__diesel_schema_migrations'";
    for row in rows::rows(&url, columns).await {
        let [table, column, udt, nullable] = row.try_into().unwrap();
        let kind = diesel_type(&udt.unwrap()).to_owned();
        let kind = if nullable.unwrap() == "YES" { format!("Nullable<{kind}>") } else { kind };
        let empty = || Table { key: Vec::new(), columns: BTreeMap::new() };
        let table = stored.entry(table.unwrap()).or_insert_with(empty);
        table.columns.insert(column.unwrap(), kind);
    }
    let keys = "SELECT t.relname, a.attname FROM pg_index i
         JOIN pg_class t ON t.oid = i.indrelid
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY (i.indkey)
        WHERE i.indisprimary AND t.relnamespace = 'public'::regnamespace
          AND t.relname <> '__diesel_schema_migrations'
        ORDER BY t.relname, array_position(i.indkey::int2[], a.attnum)";
    for row in rows::rows(&url, keys).await {
        let [table, column] = row.try_into().unwrap();
        stored.get_mut(&table.unwrap()).unwrap().key.push(column.unwrap());
    }
    let known = diesels_tables();
    assert!(known.len() >= 25 && known["bookings"].columns.len() == 32);
    let names = |tables: &BTreeMap<String, Table>| tables.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&known), names(&stored));
    for (name, table) in &known {
        assert_eq!(table, &stored[name], "{name}");
    }
}

#[tokio::test]
async fn every_violation_names_a_constraint() {
    let url = postgres::migrated();
    let sql = "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace";
    let constraints: BTreeSet<String> = rows::column(&url, sql).await.into_iter().collect();
    for violation in Violation::ALL {
        assert!(constraints.contains(violation.constraint()), "{violation:?}");
    }
}

/// The words in quotes of a constraint's definition.
async fn words_of(url: &str, constraint: &str) -> BTreeSet<String> {
    let sql = format!(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = '{constraint}'"
    );
    let definition = rows::column(url, &sql).await.remove(0);
    let quoted = definition.split('\'').skip(1).step_by(2);
    quoted
        .filter(|w| w.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .map(String::from)
        .collect()
}

#[tokio::test]
async fn the_states_of_a_booking_are_the_same_on_both_sides() {
    let url = postgres::migrated();
    let words = |keep: fn(&Status) -> bool| -> BTreeSet<String> {
        Status::ALL.iter().filter(|s| keep(s)).map(|s| s.as_str().to_owned()).collect()
    };
    let sql = "SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
        JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
       WHERE d.adrelid = 'bookings'::regclass AND a.attname = 'blocks'";
    let rule = rows::column(&url, sql).await.remove(0);
    for status in Status::ALL {
        for pending_blocks in [true, false] {
            let sql = format!(
                "SELECT ({rule})::text FROM (VALUES ('{}'::varchar, {pending_blocks})) AS t (status, pending_blocks)",
                status.as_str()
            );
            let blocks = rows::column(&url, &sql).await.remove(0);
            assert_eq!(blocks, status.blocks(pending_blocks).to_string(), "{status:?}");
        }
    }
    assert_eq!(words_of(&url, "bookings_status_check").await, words(|_| true));
}

/// Section 4.1: tables and columns. Money became integers of minor units with a currency.
const COLUMNS: &[(&str, &str)] = &[
    (
        "users",
        "id email password_hash first_name last_name phone date_of_birth gender user_type \
        status email_verified phone_verified created_at updated_at",
    ),
    (
        "practitioners",
        "id user_id bio experience_years hourly_rate languages certifications \
        specializations availability verification_status verification_documents rating \
        total_sessions created_at updated_at",
    ),
    (
        "services",
        "id name description category_id duration_minutes base_price status created_at \
        updated_at",
    ),
    ("service_categories", "id"),
    (
        "bookings",
        "id seeker_id practitioner_id service_id scheduled_at duration_minutes \
        total_amount commission_amount status cancellation_reason notes created_at updated_at",
    ),
    (
        "payments",
        "id booking_id amount currency payment_method payment_gateway \
        gateway_transaction_id status processed_at created_at",
    ),
    (
        "reviews",
        "id booking_id reviewer_id reviewee_id rating comment is_anonymous created_at \
        updated_at",
    ),
];

/// Section 4.1: the indexes, as PostgreSQL prints their columns.
const INDEXES: &[(&str, &str, &str)] = &[
    ("users", "idx_users_email", "(email)"),
    ("users", "idx_users_type_status", "(user_type, status)"),
    ("practitioners", "idx_practitioners_user_id", "(user_id)"),
    ("practitioners", "idx_practitioners_verification", "(verification_status)"),
    ("practitioners", "idx_practitioners_rating_sessions", "(rating DESC, total_sessions DESC)"),
    ("bookings", "idx_bookings_seeker", "(seeker_id)"),
    ("bookings", "idx_bookings_practitioner", "(practitioner_id)"),
    ("bookings", "idx_bookings_scheduled", "(scheduled_at)"),
    ("bookings", "idx_bookings_status", "(status)"),
    ("bookings", "idx_bookings_practitioner_date", "(practitioner_id, scheduled_at)"),
    ("payments", "idx_payments_booking", "(booking_id)"),
    ("payments", "idx_payments_status", "(status)"),
    ("reviews", "idx_reviews_booking", "(booking_id)"),
    ("reviews", "idx_reviews_reviewee", "(reviewee_id)"),
];

/// Section 4.1: the words that a CHECK allows; the hub knows more states of a booking.
const CHECKS: &[(&str, &[&str])] = &[
    ("users_user_type_check", &["seeker", "practitioner", "admin"]),
    ("users_status_check", &["active", "inactive", "suspended"]),
    ("practitioners_verification_status_check", &["pending", "verified", "rejected"]),
    ("services_status_check", &["active", "inactive"]),
    ("bookings_status_check", &["pending", "confirmed", "completed", "cancelled"]),
    ("payments_status_check", &["pending", "completed", "failed", "refunded"]),
];

#[tokio::test]
async fn section_4_1_is_there_in_full() {
    let url = postgres::migrated();
    let lines = snapshot(&url).await;
    for (table, columns) in COLUMNS {
        for column in columns.split_whitespace() {
            let found = lines.iter().any(|line| {
                let words: Vec<&str> = line.split(' ').take(4).collect();
                words[0] == "column" && words[1] == *table && words[3] == column
            });
            assert!(found, "{table}.{column}");
        }
    }
    for (table, index, columns) in INDEXES {
        let definition = format!("{index} ON public.{table} USING btree {columns}");
        assert!(lines.iter().any(|line| line.ends_with(&definition)), "{definition}");
    }
    for (constraint, words) in CHECKS {
        let allowed = words_of(&url, constraint).await;
        for word in *words {
            assert!(allowed.contains(*word), "{constraint}: {word}");
        }
    }
    for definition in [
        "users_email_key UNIQUE (email)",
        "reviews_rating_check CHECK (((rating >= 1) AND (rating <= 5)))",
        "FOREIGN KEY (seeker_id) REFERENCES users(id) ON DELETE CASCADE",
        "FOREIGN KEY (category_id) REFERENCES service_categories(id)",
    ] {
        assert!(lines.iter().any(|line| line.ends_with(definition)), "{definition}");
    }
}

#[tokio::test]
async fn the_database_itself_refuses_two_bookings_of_one_time() {
    let hub = crate::support::TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    let wish = practice.wish(practice.slot(10));
    seeker.post(&hub, "/v1/bookings", wish).await.data(201);
    let columns = "seeker_id, practitioner_id, service_id, scheduled_at, duration_minutes, ends_at,
        occupied_from, occupied_until, total_amount, commission_amount";
    let (client, connection) =
        tokio_postgres::connect(&hub.database_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let copy = |status: &str| {
        format!(
            "INSERT INTO bookings ({columns}, status, hold_expires_at)
            SELECT {columns}, '{status}', now() FROM bookings LIMIT 1"
        )
    };
    for status in Status::ALL.iter().filter(|s| s.blocks(true)) {
        let refused = client.simple_query(&copy(status.as_str())).await.unwrap_err();
        let refused = refused.as_db_error().unwrap();
        assert_eq!(refused.constraint(), Some("bookings_no_overlap"), "{status:?}");
    }
    // The control: a state that does not block may lie over it.
    client.simple_query(&copy("cancelled")).await.unwrap();
    hub.stop().await;
}

/// No constraint of the events says so, since whoever appends one holds the user's channel.
#[tokio::test]
async fn the_events_of_a_user_go_with_the_user() {
    let hub = TestHub::start().await;
    let (practice, seeker) = (hub.practice().await, hub.seeker().await);
    seeker.post(&hub, "/v1/bookings", practice.wish(practice.slot(0))).await.data(201);
    let events = |person: &Person| format!("user_events WHERE user_id = '{}'", person.id);
    for person in [&practice.person, &seeker] {
        assert!(rows::count(&hub.database_url, &events(person)).await > 0);
    }
    hub.execute(&format!("DELETE FROM users WHERE id = '{}'", seeker.id)).await;
    assert_eq!(rows::count(&hub.database_url, &events(&seeker)).await, 0);
    assert!(rows::count(&hub.database_url, &events(&practice.person)).await > 0);
}
