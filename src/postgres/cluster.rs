//! Makes the cluster once.
//!
//! `initdb` takes a second or two and may be killed half-way. It works in a temporary sibling,
//! which is renamed when complete: a cluster directory is whole or absent.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::{StartError, io_error};
use super::layout::Layout;
use super::programs::{self, Programs};
use super::{ROLE, blocking, identity};

const UNFINISHED: &str = "postgres.initdb-";

/// Sees to it that the cluster exists, and returns the programs that fit it.
pub(super) async fn prepare(
    layout: &Layout,
    bin_dir: Option<PathBuf>,
    durable: bool,
) -> Result<Programs, StartError> {
    let shared = layout.clone();
    let (made_by, programs) = blocking(move || {
        sweep(shared.base());
        let made_by = inspect(&shared)?;
        let programs = programs::choose(bin_dir.as_deref(), &shared.cluster, made_by)?;
        Ok((made_by, programs))
    })
    .await?;
    if made_by.is_none() {
        create(layout, &programs, durable).await?;
    }
    Ok(programs)
}

/// The major version of the cluster that is there; `None` when one has to be made.
fn inspect(layout: &Layout) -> Result<Option<u32>, StartError> {
    let cluster = &layout.cluster;
    if !cluster.exists() {
        return Ok(None);
    }
    let version = fs::read_to_string(cluster.join("PG_VERSION")).ok();
    let version = version.and_then(|text| programs::major_version(text.trim()));
    // A cluster outside without its link is left from a data directory that was removed: what its
    // owner wiped must not come back.
    let whole = version.is_some() && cluster.join("global/pg_control").exists();
    if !whole || !layout.entry.exists() {
        move_aside(layout)?;
        return Ok(None);
    }
    if let Some(account) = layout.account {
        let meta = fs::metadata(cluster).map_err(io_error("look at", cluster))?;
        if meta.uid() != account.uid {
            identity::own_recursively(cluster, account)?;
        }
    }
    Ok(version)
}

/// Empties the cluster's place without deleting anything somebody might still want.
fn move_aside(layout: &Layout) -> Result<(), StartError> {
    let cluster = &layout.cluster;
    if fs::remove_dir(cluster).is_err() {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let aside = layout.base().join(format!("postgres.unusable-{seconds}"));
        fs::rename(cluster, &aside).map_err(io_error("move aside", cluster))?;
        tracing::warn!(moved_to = %aside.display(), "found an unusable cluster; making a new one");
    }
    if layout.entry.is_symlink() {
        fs::remove_file(&layout.entry).map_err(io_error("remove", &layout.entry))?;
    }
    Ok(())
}

async fn create(layout: &Layout, programs: &Programs, durable: bool) -> Result<(), StartError> {
    let shared = layout.clone();
    let unfinished = blocking(move || make_room(&shared)).await?;
    let mut outcome = initdb(layout, programs, &unfinished, "C.UTF-8", durable).await?;
    if matches!(&outcome, Err(output) if output.contains("invalid locale")) {
        outcome = initdb(layout, programs, &unfinished, "C", durable).await?;
    }
    let shared = layout.clone();
    blocking(move || match outcome {
        Ok(()) => finish(&shared, &unfinished, durable),
        Err(output) => {
            sweep(shared.base());
            Err(StartError::Initdb { output })
        }
    })
    .await
}

/// Removes what killed attempts left. An `initdb` that outlived its hub may still be writing there;
/// what it leaves then is removed at the next start.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let path = entry.path();
            tracing::warn!(path = %path.display(), "removing an unfinished cluster");
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove it now");
            }
        }
    }
}

/// Makes an empty directory of the server's. Its name is new each time, since an `initdb` that
/// outlived its hub must not write into ours.
fn make_room(layout: &Layout) -> Result<PathBuf, StartError> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let unfinished = layout.base().join(format!("{UNFINISHED}{nanos}"));
    identity::make_private_dir(&unfinished, layout.account)?;
    Ok(unfinished)
}

/// The inner error is what `initdb` said.
async fn initdb(
    layout: &Layout,
    programs: &Programs,
    target: &Path,
    locale: &str,
    durable: bool,
) -> Result<Result<(), String>, StartError> {
    let program = programs.initdb();
    let mut command = identity::command(&program, layout.account);
    command
        .arg("--pgdata")
        .arg(target)
        .args(["--username", ROLE, "--encoding", "UTF8", "--data-checksums"])
        // The socket lies in a directory that only the hub's and the server's user can enter.
        .args(["--auth-local", "trust", "--auth-host", "reject"])
        .args(["--locale", locale, "--lc-messages", "C"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if !durable {
        command.arg("--no-sync");
    }
    let output = command.output().await.map_err(io_error("run", &program))?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = [output.stdout, output.stderr].concat();
    Ok(Err(String::from_utf8_lossy(&said).trim().to_owned()))
}

fn finish(layout: &Layout, unfinished: &Path, durable: bool) -> Result<(), StartError> {
    let (base, cluster, entry) = (layout.base(), &layout.cluster, &layout.entry);
    fs::rename(unfinished, cluster).map_err(io_error("put in place", cluster))?;
    if entry != cluster {
        match symlink(cluster, entry) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("link", entry)(error));
            }
            _ => {}
        }
    }
    if durable {
        let dir = fs::File::open(base).map_err(io_error("open", base))?;
        dir.sync_all().map_err(io_error("sync", base))?;
    }
    Ok(())
}
