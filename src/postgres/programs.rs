//! Finds PostgreSQL's server programs and reads their version.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::StartError;

/// The programs of one installed PostgreSQL.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    dir: PathBuf,
    pub major: u32,
    pub version: String,
}

impl Programs {
    pub(super) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }

    /// `None` when `dir` lacks one of the two programs, or they do not run.
    fn in_dir(dir: &Path) -> Option<Self> {
        // Distributions put links into /usr/local/bin and the like, sometimes to `postgres` only.
        let target = fs::canonicalize(dir.join("postgres")).ok()?;
        let dir = [target.parent()?, dir].into_iter().find(|dir| dir.join("initdb").is_file())?;
        let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let major = major_version(version.split_whitespace().nth(2)?)?;
        Some(Self { dir: dir.to_owned(), major, version })
    }
}

/// The programs for a cluster made by major version `made_by`, or for a new one. An explicit
/// `bin_dir` is taken at its word; otherwise the first fitting installation is.
pub(super) fn choose(
    bin_dir: Option<&Path>,
    cluster: &Path,
    made_by: Option<u32>,
) -> Result<Programs, StartError> {
    let sources: &[fn() -> Vec<PathBuf>] = &[on_path, by_pg_config, in_usual_places];
    let mut seen = BTreeMap::new();
    let mut fitting = |dir: &Path| {
        let programs = Programs::in_dir(dir)?;
        if made_by.is_none_or(|made_by| made_by == programs.major) {
            return Some(programs);
        }
        seen.insert(programs.dir, programs.major);
        None
    };
    let found = match bin_dir {
        Some(dir) => fitting(dir),
        None => sources.iter().find_map(|source| source().iter().find_map(|dir| fitting(dir))),
    };
    match (found, made_by, bin_dir) {
        (Some(programs), ..) => Ok(programs),
        (None, Some(made_by), _) if !seen.is_empty() => {
            let installed: Vec<_> = seen
                .iter()
                .map(|(dir, major)| format!("PostgreSQL {major} ({})", dir.display()))
                .collect();
            let installed = installed.join(", ");
            Err(StartError::IncompatibleVersion { cluster: cluster.to_owned(), made_by, installed })
        }
        (None, _, Some(dir)) => Err(StartError::BadBinDir(dir.to_owned())),
        (None, _, None) => Err(StartError::NotInstalled),
    }
}

fn on_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect()
}

fn by_pg_config() -> Vec<PathBuf> {
    match Command::new("pg_config").arg("--bindir").output() {
        Ok(output) => vec![PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())],
        Err(_) => Vec::new(),
    }
}

/// Where distributions put the programs when not on PATH: directories whose name begins so, the
/// newest version first.
fn in_usual_places() -> Vec<PathBuf> {
    let places = [
        ("/usr/lib/postgresql", "", "bin"), // Debian, Ubuntu
        ("/usr", "pgsql-", "bin"),          // PostgreSQL's own packages for Red Hat
        ("/usr/libexec", "postgresql", ""), // Alpine
        ("/usr/local", "pgsql", "bin"),     // built from source
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"), // Homebrew on Intel
    ];
    places
        .into_iter()
        .flat_map(|(parent, prefix, below)| {
            let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(parent)
                .into_iter()
                .flatten()
                .filter_map(|entry| {
                    let entry = entry.ok()?;
                    let name = entry.file_name().into_string().ok()?;
                    let rest = name.strip_prefix(prefix)?.trim_start_matches(['@', '-']);
                    Some((major_version(rest).unwrap_or(0), entry.path().join(below)))
                })
                .collect();
            versions.sort_by(|one, other| other.cmp(one));
            versions.into_iter().map(|(_, dir)| dir)
        })
        .collect()
}

/// `15` of `15`, `15.13` and `16beta1`.
pub(super) fn major_version(text: &str) -> Option<u32> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .map_or(text, |end| text.get(..end).unwrap_or_default());
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn pretend(dir: &Path, version: &str) {
        for (name, text) in [
            ("postgres", format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'")),
            ("initdb", String::new()),
        ] {
            fs::write(dir.join(name), text).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn a_major_version_is_the_leading_number() {
        assert_eq!(major_version("15.13"), Some(15));
        assert_eq!(major_version("16beta1"), Some(16));
        assert_eq!(major_version("9.6"), Some(9));
        assert_eq!(major_version("devel"), None);
    }

    #[test]
    fn another_version_than_the_data_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        pretend(dir.path(), "14.2 (Debian 14.2-1)");
        let error = choose(Some(dir.path()), Path::new("/data/postgres"), Some(15)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StartError::IncompatibleVersion { made_by: 15, .. }), "{text}");
        assert!(text.contains("PostgreSQL 14") && text.contains("postgresql-15"), "{text}");
        assert_eq!(choose(Some(dir.path()), Path::new("/"), Some(14)).unwrap().major, 14);
    }

    #[test]
    fn an_empty_bin_dir_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = choose(Some(dir.path()), Path::new("/"), None).unwrap_err();
        assert!(error.to_string().contains("HUB_PG_BIN"), "{error}");
    }
}
