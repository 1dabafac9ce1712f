//! Where the cluster, its socket and its log are.
//!
//! Normally all in the data directory. Two things can push a part elsewhere: a data directory that
//! the server's user cannot enter (a hub run by root below `/root`), and a path too long for a
//! socket's address.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::PORT;
use super::error::{StartError, io_error};
use super::identity::{self, Account};

/// Clusters of data directories that the server's user cannot enter.
const SYSTEM_DIR: &str = "/var/lib/klear-karma-hub";
/// What `sockaddr_un.sun_path` holds besides its closing NUL (unix(7); 104 in all on the BSDs).
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The cluster's true place, without symbolic links.
    pub cluster: PathBuf,
    /// `<data_dir>/postgres`: the cluster itself, or to become a symbolic link to it.
    pub entry: PathBuf,
    pub sockets: PathBuf,
    pub log: PathBuf,
    /// Whom the server runs as, if not as the hub's user.
    pub account: Option<Account>,
}

impl Layout {
    pub(super) fn socket(&self) -> PathBuf {
        socket_in(&self.sockets)
    }

    /// The directory the cluster lies in; its temporary siblings go there too.
    pub(super) fn base(&self) -> &Path {
        self.cluster.parent().unwrap_or(Path::new("/"))
    }
}

/// Creates the data directory if need be, and returns its true path.
pub(super) fn open_data_dir(data_dir: &Path) -> Result<PathBuf, StartError> {
    fs::create_dir_all(data_dir).map_err(io_error("create", data_dir))?;
    let path = fs::canonicalize(data_dir).map_err(io_error("resolve", data_dir))?;
    // It becomes part of settings, which are text.
    match path.to_str() {
        Some(_) => Ok(path),
        None => Err(io_error("use", &path)(io::ErrorKind::InvalidFilename.into())),
    }
}

/// Decides where everything is and makes the directories around the cluster. `data_dir` must be a
/// true path, and the caller must hold its locks.
pub(super) fn resolve(data_dir: &Path) -> Result<Layout, StartError> {
    let entry = data_dir.join("postgres");
    let existing = existing_cluster(&entry)?;
    let account = identity::for_server(existing.as_deref())?;
    let enters = |dir: &Path| account.map_or(Ok(true), |account| identity::can_enter(account, dir));

    let data_dir_open = enters(data_dir)?;
    let cluster = match existing {
        Some(cluster) => cluster,
        None if data_dir_open => entry.clone(),
        None => system_dir_for(data_dir)?.join("postgres"),
    };
    let base = cluster.parent().unwrap_or(data_dir);
    if let Some(account) = account
        && !enters(base)?
    {
        return Err(StartError::Unreachable { path: base.to_owned(), uid: account.uid });
    }
    let run = if data_dir_open { data_dir.join("run") } else { base.join("run") };
    let sockets = make_socket_dir(run, data_dir, account)?;
    Ok(Layout { cluster, entry, sockets, log: data_dir.join("postgres.log"), account })
}

/// The true path of the cluster that `entry` is or points to.
fn existing_cluster(entry: &Path) -> Result<Option<PathBuf>, StartError> {
    match fs::canonicalize(entry) {
        Ok(cluster) => Ok(Some(cluster)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(entry) {
            Ok(target) => Err(StartError::DanglingLink { link: entry.to_owned(), target }),
            Err(_) => Ok(None),
        },
        Err(error) => Err(io_error("resolve", entry)(error)),
    }
}

fn system_dir_for(data_dir: &Path) -> Result<PathBuf, StartError> {
    let dir = Path::new(SYSTEM_DIR).join(path_hash(data_dir));
    tracing::warn!(
        data_dir = %data_dir.display(),
        "PostgreSQL's user cannot enter the data directory; its data go to {}", dir.display()
    );
    fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
    for dir in [Path::new(SYSTEM_DIR), &dir] {
        // Against a narrow umask. Everybody may pass: the cluster inside is the server's alone.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
            .map_err(io_error("set the mode of", dir))?;
    }
    Ok(dir)
}

fn make_socket_dir(
    run: PathBuf,
    data_dir: &Path,
    account: Option<Account>,
) -> Result<PathBuf, StartError> {
    if socket_in(&run).as_os_str().len() <= SOCKET_PATH_MAX {
        if run.is_symlink() {
            // From a time when the path was longer.
            fs::remove_file(&run).map_err(io_error("remove", &run))?;
        }
        identity::make_private_dir(&run, account)?;
        return Ok(run);
    }
    let short = PathBuf::from(format!("/tmp/klear-karma-hub-{}", path_hash(data_dir)));
    identity::make_private_dir(&short, account)?;
    show_where(&run, &short)?;
    tracing::info!(sockets = %short.display(), "the path is too long for a socket; using /tmp");
    Ok(short)
}

/// Leaves a link in the usual place, for people and for `scripts/clean-data`.
fn show_where(run: &Path, sockets: &Path) -> Result<(), StartError> {
    match symlink(sockets, run) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("link", run)(error))
        }
        _ => Ok(()),
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

/// 64-bit FNV-1a (draft-eastlake-fnv), in hex. Names directories, so it has to stay the same over
/// compiler versions, which the standard library's hasher does not promise.
fn path_hash(path: &Path) -> String {
    let hash = path.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::path_hash;

    #[test]
    fn the_hash_is_fnv_1a() {
        // Test vectors of draft-eastlake-fnv, appendix C.
        assert_eq!(path_hash(Path::new("a")), "af63dc4c8601ec8c");
        assert_eq!(path_hash(Path::new("foobar")), "85944171f73967e8");
    }
}
