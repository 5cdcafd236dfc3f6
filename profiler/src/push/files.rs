//! `rprof push`: profiles that exist go to servers. All files are read before the first is sent, so that a
//! mistake in one sends none.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pprof::protos::Profile;

use super::client::{self, Connection};
use super::credentials::VARIABLE;
use super::delivery::{Delivery, Progress, Step, Suspects};
use super::destination::{self, Destination, Protocol};
use super::pprof_file;
use super::protocols;
use crate::cli::Failure;
use crate::cli::args::Server;
use crate::cli::retype::quoted;

/// Bytes of a file at most.
const MAX_FILE: u64 = 256 << 20;
/// Times that a server is asked which says "not now".
const TRIES: u32 = 4;
/// Before the second of them; then twice as long each time, unless the server names a time.
const PAUSE: Duration = Duration::from_millis(500);
/// What people wait for at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What was typed.
#[derive(Clone, Debug)]
pub struct Push {
    /// Profiles.
    pub files: Vec<PathBuf>,
    /// URLs of servers.
    pub to: Vec<String>,
    /// Labels for each series.
    pub labels: Vec<(String, String)>,
    /// Who we are to them.
    pub server: Server,
}

/// Sends what was asked for; `say` is told of each file that a server has.
///
/// # Errors
/// The first mistake, before anything is sent; or what a server said, with what it has got already.
pub fn push(typed: &Push, say: &dyn Fn(&str)) -> Result<(), Failure> {
    let destinations: Result<Vec<Destination>, Failure> =
        typed.to.iter().map(|url| destination::parse(url)).collect();
    let mut destinations = destinations?;
    let client = typed.server.client(&destinations)?;
    let profiles: Result<Vec<(&Path, Profile)>, Failure> = typed
        .files
        .iter()
        .map(|path| Ok((path.as_path(), read(path)?)))
        .collect();
    let profiles = profiles?;
    for destination in &mut destinations {
        if destination.protocol.is_none() {
            let command = "rprof push rprof.pb.gz --to";
            let protocol = protocols::identify(&client, &destination.base, command)?;
            destination.protocol = Some(protocol);
            say(&format!("the server is {destination}"));
        }
        check_labels(destination, &typed.labels, "rprof push rprof.pb.gz")?;
    }
    for destination in &destinations {
        let connection = client.connect(&destination.base, destination.transport());
        for (path, profile) in &profiles {
            say(&send(
                &connection,
                destination,
                path,
                profile,
                &typed.labels,
                say,
            )?);
        }
    }
    Ok(())
}

/// A profile of rprof or of anyone.
fn read(path: &Path) -> Result<Profile, Failure> {
    let name = quoted(&path.to_string_lossy());
    let failed =
        |error: std::io::Error| Failure::file("read", path, &error).next(format!("ls -l {name}"));
    let size = std::fs::metadata(path).map_err(failed)?.len();
    let not_sent = |why: String| {
        Failure::new(format!(
            "{} is no profile that can be sent: {why}",
            path.display()
        ))
        .next(format!("go tool pprof -top {name}"))
    };
    if size > MAX_FILE {
        return Err(not_sent(format!("it has more than {} MiB", MAX_FILE >> 20)));
    }
    // A pipe says of no size.
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path).map_err(failed)?.take(MAX_FILE);
    file.read_to_end(&mut bytes).map_err(failed)?;
    pprof_file::read(&bytes).map_err(not_sent)
}

/// Whether a server takes these labels.
///
/// # Errors
/// The first that it does not; `command` is what an option may follow.
pub(super) fn check_labels(
    destination: &Destination,
    labels: &[(String, String)],
    command: &str,
) -> Result<(), Failure> {
    let Some(protocol) = destination.protocol else {
        return Ok(());
    };
    for (name, value) in labels {
        protocols::check_label(protocol, name, value).map_err(|(why, instead)| {
            Failure::usage(format!("{} {why}", protocol.name()))
                .next(format!("{command} --label {}", quoted(&instead)))
        })?;
    }
    // One is that of the host.
    if labels.len() >= protocols::MOST_LABELS {
        let most = protocols::MOST_LABELS - 1;
        return Err(Failure::usage(format!("a profile has at most {most} labels")).next(command));
    }
    Ok(())
}

/// Sends one file to one server; what it came to, as a sentence.
fn send(
    connection: &Connection,
    destination: &Destination,
    path: &Path,
    profile: &Profile,
    labels: &[(String, String)],
    say: &dyn Fn(&str),
) -> Result<String, Failure> {
    let protocol = destination.protocol.unwrap_or(Protocol::Pyroscope);
    let mut all = labels_within(profile);
    all.extend(labels.iter().cloned());
    let prepared = protocols::prepare(protocol, profile, &all, SystemTime::now());
    let file = path.display();
    let too_late = || {
        let what = format!(
            "{} takes nothing that old (or its time lies ahead), and so not {file}",
            protocol.name()
        );
        Failure::new(what).next("rprof push … --to parca+http://127.0.0.1:7070")
    };
    if prepared.expired > 0 {
        return Err(too_late());
    }
    let (mut sent, mut refused) = (0, BTreeMap::<String, i64>::new());
    let mut pause = Pause::default();
    let mut delivery = Delivery::new(connection, protocol, &all, &prepared, false);
    let (mut progress, mut suspects) = (Progress::default(), Suspects::new());
    while let Some(step) = delivery.step(&mut progress, &mut suspects) {
        let failed = |why: &str| {
            let why = client::short(why);
            let part = match sent {
                0 => String::new(),
                n => format!(" (it has {n} of its {} samples)", prepared.samples()),
            };
            Failure::new(format!("{file} was not sent to {destination}{part}: {why}"))
        };
        let wait = |pause, why: &str| match pause {
            Some(pause) => {
                say(&format!(
                    "{destination}: {}; trying again",
                    client::short(why)
                ));
                std::thread::sleep(pause);
                Ok(())
            }
            None => Err(failed(why).next(format!("curl -i {}", destination.base))),
        };
        match step {
            Step::Sent(samples) => {
                sent += samples;
                pause = Pause::default();
            }
            Step::Refused(samples, why) => *refused.entry(why).or_default() += samples,
            Step::Expired(_) => return Err(too_late()),
            Step::Denied(why) if is_of_credentials(&why) => {
                return Err(
                    failed(&why).next(format!("{VARIABLE}=user:password rprof push … --to …"))
                );
            }
            Step::Denied(why) => {
                return Err(failed(&why).next(format!("curl -i {}", destination.base)));
            }
            Step::Later(why, wanted) => wait(pause.next(wanted), &why)?,
            Step::Away(why) => wait(pause.next(None), &why)?,
        }
    }
    if let Some((why, _)) = refused.iter().next() {
        let n: i64 = refused.values().sum();
        return Err(Failure::new(format!(
            "{destination} refused {n} of the {} samples of {file}: {}",
            prepared.samples(),
            client::short(why)
        )));
    }
    let left_out = match prepared.oversized {
        0 => String::new(),
        n => format!("; {n} samples left out, whose stacks are larger than it takes"),
    };
    Ok(format!(
        "{file}: {sent} samples in {} series, {} KiB, are with {destination}{left_out}",
        prepared.pieces.len(),
        delivery.bytes.div_ceil(1024),
    ))
}

/// Whether somebody has to say who we are.
fn is_of_credentials(why: &str) -> bool {
    ["401", "403", "Unauthenticated", "PermissionDenied"]
        .iter()
        .any(|status| why.starts_with(&format!("it answers {status}")))
}

/// How long a server that says "not now" is left alone.
#[derive(Default)]
struct Pause {
    tried: u32,
}

impl Pause {
    /// `None`: it was asked often enough, or wants more time than people have.
    fn next(&mut self, wanted: Option<Duration>) -> Option<Duration> {
        self.tried += 1;
        let pause = wanted.unwrap_or(PAUSE * 2u32.saturating_pow(self.tried - 1));
        (self.tried < TRIES && pause <= LONGEST_PAUSE).then_some(pause)
    }
}

/// What a profile of ours says of itself in its comments: its machine, and the labels it was given.
pub(super) fn labels_within(profile: &Profile) -> BTreeMap<String, String> {
    let texts = profile.comment.iter().filter_map(|&id| {
        let text = profile.string_table.get(usize::try_from(id).ok()?)?;
        let (name, value) = text.split_once(": ")?;
        match name {
            "host" => Some(("host".to_string(), value.to_string())),
            "label" => value
                .split_once('=')
                .map(|(name, value)| (name.into(), value.into())),
            _ => None,
        }
    });
    texts.collect()
}
