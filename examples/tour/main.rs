//! `make tour`: a scripted tour against a running hub, see `script`.

#[path = "../../tests/it/support/push_receiver.rs"]
mod push_receiver;
mod script;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

/// Two people sign up, book, chat and get a push, step by step, against a running hub.
#[derive(Parser)]
#[command(name = "tour")]
struct Arguments {
    /// Where the hub is.
    #[arg(long, env = "BASE_URL", default_value = "http://127.0.0.1:8080")]
    base_url: String,
    /// Also wait until a closed socket counts as offline: 15 seconds, unless the hub is set up
    /// otherwise.
    #[arg(long)]
    full: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    let options = script::Options {
        colour: out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        base_url: arguments.base_url,
        full: arguments.full,
    };
    match script::run(&options, &mut out).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("\ntour: {e}");
            ExitCode::FAILURE
        }
    }
}
