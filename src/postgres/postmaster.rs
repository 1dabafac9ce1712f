//! Who, if anybody, already serves a cluster.
//!
//! `postmaster.pid` names the server's process, but after a crash the number may belong to any
//! program. PostgreSQL itself then refuses to start when that program is of the same user; so the
//! process is looked at here, and a file that names a stranger is removed.

use std::fs;
use std::io;
use std::path::Path;

use super::error::{StartError, io_error};
use super::layout::Layout;

/// What `postmaster.pid` amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No server, and nothing in the way of one.
    Nothing,
    /// A server of this cluster, and its command line.
    Server { pid: u32, command: String },
    /// The named process is gone, or a stranger.
    Leftovers,
    /// A PostgreSQL whose directory the system does not let us see. PostgreSQL's own checks
    /// decide.
    Unclear,
}

/// Looks for a running server of the cluster. Blocking: it reads files, and without `/proc` it
/// asks `ps`.
pub(super) fn find(cluster: &Path) -> Result<Found, StartError> {
    let path = cluster.join("postmaster.pid");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    // A crash at the wrong moment leaves the file empty.
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse().ok()) else {
        return Ok(Found::Leftovers);
    };
    Ok(examine(pid, cluster))
}

/// Removes what [`Found::Leftovers`] stands for. Should the dead server's children still be there
/// after all, PostgreSQL notices by its shared memory, whose key is the directory's inode.
pub(super) fn clear_leftovers(layout: &Layout) -> Result<(), StartError> {
    let socket = layout.socket();
    let mut socket_lock = socket.clone().into_os_string();
    socket_lock.push(".lock");
    for path in [layout.cluster.join("postmaster.pid"), socket, socket_lock.into()] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the process still is the server of the cluster.
pub(super) fn serves(pid: u32, cluster: &Path) -> bool {
    matches!(examine(pid, cluster), Found::Server { .. })
}

fn examine(pid: u32, cluster: &Path) -> Found {
    let Some(command) = command_line(pid) else { return Found::Leftovers };
    let program = command.split(' ').next().unwrap_or_default();
    // A server's children call themselves `postgres: checkpointer` and such.
    if !matches!(program.rsplit('/').next(), Some("postgres" | "postmaster")) {
        return Found::Leftovers;
    }
    if names_cluster(&command, cluster) {
        return Found::Server { pid, command };
    }
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(dir) if dir == cluster => Found::Server { pid, command },
        Ok(_) => Found::Leftovers,
        Err(_) => Found::Unclear,
    }
}

/// The arguments of a living process, with spaces between; `None` for none and for a zombie.
fn command_line(pid: u32) -> Option<String> {
    let bytes = if Path::new("/proc/self/cmdline").exists() {
        fs::read(format!("/proc/{pid}/cmdline")).ok()?
    } else {
        let pid = pid.to_string();
        let ps = ["-ww", "-o", "command=", "-p", pid.as_str()];
        std::process::Command::new("ps").args(ps).output().ok()?.stdout
    };
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn names_cluster(command: &str, cluster: &Path) -> bool {
    let option = format!(" -D {}", cluster.display());
    command.find(&option).is_some_and(|at| {
        let rest = command.get(at + option.len()..).unwrap_or_default();
        rest.is_empty() || rest.starts_with(' ')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_named_as_a_whole_argument() {
        let command = "/bin/postgres -D /data/a/postgres -c port=5432";
        assert!(names_cluster(command, Path::new("/data/a/postgres")));
        assert!(!names_cluster(command, Path::new("/data/a")));
        assert!(!names_cluster("/bin/postgres -D /data/ab", Path::new("/data/a")));
    }

    #[test]
    fn a_stranger_is_a_leftover() {
        assert_eq!(examine(std::process::id(), Path::new("/data")), Found::Leftovers);
        assert!(command_line(std::process::id()).is_some());
    }
}
