//! Which system user the server runs as. PostgreSQL refuses to run as root.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;
use std::process::Stdio;

use nix::unistd::{User, geteuid};

use super::error::{StartError, io_error};

/// The user the server is started as by a hub that runs as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// `None` when the server runs as the hub's own user. A hub running as root uses the owner of the
/// data that are there, so that data made by an ordinary user stay theirs; else the
/// distribution's `postgres`, else `nobody`.
pub(super) fn for_server(existing_cluster: Option<&Path>) -> Result<Option<Account>, StartError> {
    let hub = geteuid();
    let owner = match existing_cluster {
        Some(path) => {
            let meta = fs::metadata(path).map_err(io_error("look at", path))?;
            Some((path, Account { uid: meta.uid(), gid: meta.gid() }))
        }
        None => None,
    };
    if !hub.is_root() {
        return match owner {
            Some((path, Account { uid: owner, .. })) if owner != hub.as_raw() => {
                Err(StartError::WrongOwner { path: path.to_owned(), owner, hub: hub.as_raw() })
            }
            _ => Ok(None),
        };
    }
    match owner {
        Some((_, account)) if account.uid != 0 => Ok(Some(account)),
        _ => system_account().map(Some),
    }
}

fn system_account() -> Result<Account, StartError> {
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .map(|user| Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
        .ok_or(StartError::NoServerUser)
}

/// A command that carries nothing of the hub along: not its user, its directory, its process group
/// (a Ctrl-C meant for the hub must not reach the server) or its environment, which holds secrets
/// and perhaps `PG…` variables that would redirect the server.
pub(super) fn command(program: &Path, account: Option<Account>) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    command
        .env_clear()
        .envs(
            ["PATH", "LD_LIBRARY_PATH", "TMPDIR"]
                .into_iter()
                .filter_map(|name| std::env::var_os(name).map(|value| (name, value))),
        )
        // Messages in English: some are read here. macOS refuses to start without a locale.
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null());
    if let Some(account) = account {
        // The standard library drops the supplementary groups with the user.
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// Whether the account can enter `dir`. Asked by trying, so that ACLs and mounts count as well.
pub(super) fn can_enter(account: Account, dir: &Path) -> Result<bool, StartError> {
    let shell = Path::new("/bin/sh");
    command(shell, Some(account))
        .into_std()
        .args(["-c", r#"cd "$1""#, "sh"])
        .arg(dir)
        .stderr(Stdio::null())
        .status()
        .map(|status| status.success())
        .map_err(io_error("run", shell))
}

/// Makes `dir` with mode 0700, or brings an existing one to it, and hands it to the server's user.
/// One that another user made is refused, since in `/tmp` anybody may have been there first; root
/// makes it anew. Nothing but sockets may lie in it.
pub(super) fn make_private_dir(dir: &Path, account: Option<Account>) -> Result<(), StartError> {
    let create = || fs::DirBuilder::new().mode(0o700).create(dir);
    match create() {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io_error("create", dir)(error));
        }
        _ => {}
    }
    let hub = geteuid();
    let meta = fs::symlink_metadata(dir).map_err(io_error("look at", dir))?;
    let ours = meta.uid() == hub.as_raw() || account.is_some_and(|it| it.uid == meta.uid());
    if !meta.is_dir() || !ours {
        if !hub.is_root() {
            return Err(StartError::Stranger(dir.to_owned()));
        }
        fs::remove_dir_all(dir).and_then(|()| create()).map_err(io_error("make anew", dir))?;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .map_err(io_error("set the mode of", dir))?;
    match account {
        Some(account) => own(dir, account),
        None => Ok(()),
    }
}

/// Hands `path` and all below it to the account, following no links.
pub(super) fn own_recursively(path: &Path, account: Account) -> Result<(), StartError> {
    own(path, account)?;
    if !fs::symlink_metadata(path).map_err(io_error("look at", path))?.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(io_error("read", path))? {
        own_recursively(&entry.map_err(io_error("read", path))?.path(), account)?;
    }
    Ok(())
}

fn own(path: &Path, account: Account) -> Result<(), StartError> {
    lchown(path, Some(account.uid), Some(account.gid))
        .map_err(io_error("change the owner of", path))
}
