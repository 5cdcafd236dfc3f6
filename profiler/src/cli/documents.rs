//! Completions and the manual page, made from the one definition in [`args`](super::args) and the
//! lines about the ledger's [`words`]. A shell's
//! name comes in, bytes for standard output leave.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::args::{Args, ENVIRONMENT, EXAMPLES, EXIT_CODES, FILES};
use crate::report::words;

/// The completion script of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "rprof", &mut script);
    script
}

/// The manual page, as roff.
///
/// # Errors
/// Only what writing to memory can give.
pub fn man() -> io::Result<Vec<u8>> {
    let man = clap_mangen::Man::new(Args::command());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    // The generator's own section refers to pages of the subcommands, which do not exist.
    let tasks = tasks(&Args::command(), "rprof");
    writeln!(page, ".SH COMMANDS")?;
    for (name, task) in &tasks {
        let about = task.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default();
        writeln!(page, ".TP\n\\fB{name}\\fR\n{about}")?;
    }
    man.render_options_section(&mut page)?;
    for (name, task) in tasks {
        let mut options = Vec::new();
        clap_mangen::Man::new(task).render_options_section(&mut options)?;
        let options = String::from_utf8_lossy(&options);
        let title = format!(".SH OPTIONS OF {}", name.to_uppercase());
        let own = options.replacen(".SH OPTIONS", &title, 1);
        // Of those that have more than `--help`.
        if own.matches(".TP").count() > 1 {
            page.extend(own.bytes());
        }
    }
    // Nor does it keep the columns of what stands below the options in help.
    let ledger = words::listing();
    for (title, text) in [
        ("EXAMPLES", EXAMPLES),
        ("EXIT STATUS", EXIT_CODES),
        ("ENVIRONMENT", ENVIRONMENT),
        ("FILES", FILES),
        ("LEDGER", &ledger),
    ] {
        writeln!(page, ".SH {title}\n.nf\n{}\n.fi", text.replace('-', "\\-"))?;
    }
    Ok(page)
}

/// The tasks of a command, those of each behind it, with their whole names.
fn tasks(command: &Command, name: &str) -> Vec<(String, Command)> {
    let tasks = command.get_subcommands().flat_map(|task| {
        let name = format!("{name} {}", task.get_name());
        let own = tasks(task, &name);
        std::iter::once((name, task.clone())).chain(own)
    });
    tasks.collect()
}
