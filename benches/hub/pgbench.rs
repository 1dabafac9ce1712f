//! The yardstick: single rows per second that pgbench inserts into a table of the same PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::world::World;

/// What pgbench is to do.
pub struct Load<'a> {
    /// The file in `benches/hub`: one row and one commit per transaction.
    pub script: &'a str,
    /// Counts the rows that it inserted.
    pub rows: &'a str,
    pub variables: &'a [(&'a str, String)],
    pub clients: usize,
    pub seconds: u64,
}

/// Rows per second that it inserted, by count.
pub async fn rows_per_second(world: &World, load: &Load<'_>) -> f64 {
    let before = world.number(load.rows).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/hub").join(load.script);
    let mut command = Command::new(program());
    command.args(["-n", "-M", "prepared", "-j", "2", "-f"]).arg(script);
    command.args(["-c", &load.clients.to_string(), "-T", &load.seconds.to_string()]);
    for (name, value) in load.variables {
        command.args(["-D", &format!("{name}={value}")]);
    }
    let socket_dir = world.postgres.socket_dir().to_str().unwrap();
    let output = command
        .args(["-U", "hub", "-h", socket_dir, "hub"])
        .output()
        .expect("pgbench of PostgreSQL is needed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let number = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (rate, transactions) =
        (number("tps = "), number("number of transactions actually processed: "));
    let rows = (world.number(load.rows).await - before) as f64;
    // Two that met in the same place are one row.
    assert!(rows / transactions > 0.97, "{rows} rows of {transactions} transactions");
    rate * rows / transactions
}

/// On PATH, or where Debian puts it.
fn program() -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&on_path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let program = places.into_iter().map(|dir| dir.join("pgbench")).find(|p| p.is_file());
    program.expect("pgbench of PostgreSQL is needed")
}
