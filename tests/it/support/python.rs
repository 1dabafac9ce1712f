//! A Python with packages of its own, for what other people's code is asked about.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// What the oracle of calendars needs.
const PACKAGES: &[&str] = &["icalendar==7.3.2", "recurring-ical-events==3.8.2"];

static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();

/// The interpreter of an environment below `target` that has what calendars are asked about with.
fn python() -> Option<&'static Path> {
    let check = "import icalendar, recurring_ical_events";
    let made = || with("ical-python", PACKAGES, check, "a reader of iCalendar");
    PYTHON.get_or_init(made).as_deref()
}

/// The interpreter of the environment `name` below `target`, in which `check` runs once `packages`
/// are there; made once, and kept for later runs. `None`, and a loud word, where there is no Python,
/// no pip or no registry: `what` was not asked then.
pub fn with(name: &str, packages: &[&str], check: &str, what: &str) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = dir.join("bin/python");
    let has_packages = || run(Command::new(&python).args(["-c", check])).is_ok();
    if has_packages() {
        return Some(python);
    }
    let made =
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir)).and_then(|()| {
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))
        });
    match made {
        Ok(()) if has_packages() => Some(python),
        Ok(()) => skip(what, "the packages do not load"),
        Err(why) => skip(what, &why),
    }
}

fn skip(what: &str, why: &str) -> Option<PathBuf> {
    // Past the capture of the test runner: who runs the tests is to see it.
    let word = format!("\n!!!! SKIPPED: nobody else's code was asked, {what}: {why} !!!!\n");
    let _ = writeln!(std::io::stderr(), "{word}");
    None
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {last}")) }
}

/// The running oracle of calendars.
pub struct IcalOracle {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl IcalOracle {
    /// Starts it; `None` where it can not be had.
    pub fn start() -> Option<Self> {
        let script = include_str!("../../oracle/ical_oracle.py");
        let mut command = Command::new(python()?);
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut oracle = Self { process, input, output };
        oracle.line();
        Some(oracle)
    }

    fn line(&mut self) -> Value {
        let line = self.output.next().expect("the oracle ended; its error is above").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Asks one thing.
    pub fn ask(&mut self, case: &Value) -> Value {
        writeln!(self.input, "{case}").unwrap();
        self.line()
    }

    /// What it makes of `text`.
    pub fn parse(&mut self, text: &str) -> Value {
        self.ask(&serde_json::json!({ "op": "parse", "text": text }))
    }
}

impl Drop for IcalOracle {
    fn drop(&mut self) {
        // Its input ends with us; a test that failed does not wait for it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
