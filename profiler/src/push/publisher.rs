//! `--push` and `--listen`: what was asked for is looked at, and everything started that gives profiles away
//! while sampling goes on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::client::Client;
use super::credentials::Credentials;
use super::destination::{self, Destination};
use super::files::check_labels;
use super::gather::{self, Gatherer, MOST_SCRAPES, Run};
use super::listen::{Listener, Serving};
use super::protocols;
use super::sender::{Figures, Sending};
use super::spool::{Bounds, Spool};
use crate::cli::Failure;
use crate::cli::args::Server;
use crate::cli::failure::reason;
use crate::sampling::door::door;
use crate::sampling::intervals::{Publish, Publishing};
use crate::sampling::privileges;

/// Intervals that wait for their names, at most.
const WAITING: usize = 1;
/// How long the end waits for what is still to be sent, to all servers.
const FAREWELL: Duration = Duration::from_secs(5);

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// URLs of servers.
    pub urls: Vec<String>,
    /// Where to wait for who comes for profiles.
    pub listen: Option<SocketAddr>,
    /// How long an interval is.
    pub interval: Duration,
    /// Who we are to them.
    pub server: Server,
    /// Where profiles wait.
    pub spool: PathBuf,
    /// How much of them, and how long, for each server.
    pub bounds: Bounds,
}

impl Server {
    /// Speaks to servers so.
    ///
    /// # Errors
    /// Those of its files.
    pub fn client(&self, to: &[Destination]) -> Result<Client, Failure> {
        let bases: Vec<&str> = to.iter().map(|to| to.base.as_str()).collect();
        Client::new(
            Credentials::find(self.auth_file.as_deref(), self.tenant.clone(), &bases)?,
            self.ca.as_deref(),
        )
    }
}

/// Who gets profiles as they are taken: servers, and whoever comes for them.
pub struct Publisher {
    client: Client,
    to: Vec<(Destination, Spool)>,
    listener: Option<Listener>,
    every: Duration,
    bounds: Bounds,
    say: Arc<dyn Fn(&str) + Send + Sync>,
}

/// What became of the profiles for one server.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The server.
    pub to: Destination,
    /// In samples.
    pub figures: Figures,
    /// Samples that wait in the spool.
    pub waiting: u64,
    /// Profiles that wait there.
    pub profiles: u64,
    /// Bytes of the spool.
    pub bytes: u64,
    /// Samples that the spool's bounds threw out.
    pub evicted: u64,
    /// Where the spool is.
    pub spool: PathBuf,
}

impl Outcome {
    /// All was lost: neither has the server anything, nor does anything wait for it.
    pub fn has_nothing(&self) -> bool {
        self.figures.lost + self.evicted > 0 && self.figures.sent == 0 && self.waiting == 0
    }

    /// What samples have become that wait no more.
    pub fn columns(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let figures = self.figures;
        [
            ("sent", figures.sent),
            ("refused", figures.refused),
            ("expired", figures.expired),
            ("oversized", figures.oversized),
            ("lost", figures.lost),
            ("evicted", self.evicted),
        ]
        .into_iter()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, figures, .. } = self;
        let kib = figures.bytes.div_ceil(1024);
        write!(
            f,
            "{to} has got {} samples ({kib} KiB were sent)",
            figures.sent
        )?;
        let more = [
            (figures.refused, "it refused"),
            (figures.expired, "were too old for it"),
            (
                figures.oversized,
                "have stacks that are larger than it takes",
            ),
            (figures.lost, "could not be kept"),
            (self.evicted, "were thrown out of the full spool"),
        ];
        for (n, what) in more.into_iter().filter(|(n, _)| *n > 0) {
            write!(f, "; {n} {what}")?;
        }
        match self.waiting {
            0 => Ok(()),
            n => write!(
                f,
                "; {n} wait in {}, for the next run",
                self.spool.display()
            ),
        }
    }
}

impl Publisher {
    /// Looks at all that can be looked at before anything is sampled.
    ///
    /// # Errors
    /// What is wrong with a URL, a label, the credentials or a spool; a server that does not say what it is.
    pub fn new(
        settings: &Settings,
        labels: &[(String, String)],
        say: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let destinations: Result<Vec<Destination>, Failure> = settings
            .urls
            .iter()
            .map(|url| destination::parse(url))
            .collect();
        let mut destinations = destinations?;
        let client = settings.server.client(&destinations)?;
        let listener = settings.listen.map(Listener::bind).transpose()?;
        for destination in &mut destinations {
            if destination.protocol.is_none() {
                let command = "sudo rprof --all --push";
                let protocol = protocols::identify(&client, &destination.base, command)?;
                destination.protocol = Some(protocol);
                say(&format!("the server is {destination}"));
            }
            check_labels(destination, labels, "sudo rprof --all --push …")?;
        }
        let mut to: Vec<(Destination, Spool)> = Vec::new();
        for destination in destinations {
            if to.iter().any(|(known, _)| *known == destination) {
                continue;
            }
            let account = client.account(&destination.base);
            let folder = settings.spool.join(folder(&destination, &account));
            to.push((destination, Spool::open(&folder, settings.bounds)?));
        }
        if let Some(listener) = &listener {
            say(&format!("listening on http://{}", listener.address()));
        }
        Ok(Self {
            client,
            to,
            listener,
            every: settings.interval,
            bounds: settings.bounds,
            say: Arc::new(say),
        })
    }

    /// What takes the intervals of a run, and what became of them at its end. Threads are started by the
    /// former, and have the run's signal mask.
    ///
    /// # Errors
    /// Those of making a descriptor.
    pub fn publish(self, run: Run) -> Result<(Publish, Outcomes), Failure> {
        let (door, asked) = door().map_err(|error| {
            Failure::new(format!("cannot watch the run: {}", reason(&error))).next("ulimit -n 1024")
        })?;
        let outcomes = Outcomes(Arc::default());
        let started = outcomes.0.clone();
        let every = self.every;
        let kept_for = (!run.keep).then(|| gather::frames_kept(every));
        let begin = move |names| {
            let sendings = self.to.into_iter().map(|(destination, spool)| {
                let say = self.say.clone();
                Sending::start(self.client.clone(), destination, spool, move |line| {
                    say(line)
                })
            });
            let sendings: io::Result<Vec<Sending>> = sendings.collect();
            let sendings = Arc::new(sendings?);
            let (to, intervals) = bounded(WAITING);
            let (ask, scrapes) = bounded(MOST_SCRAPES);
            let serving = self
                .listener
                .map(|listener| listener.serve(ask, door.clone(), sendings.clone()))
                .transpose()?;
            let _ = started.set(Started {
                sendings: sendings.clone(),
                serving: Mutex::new(serving),
            });
            let thread = std::thread::Builder::new().name("rprof-publish".into());
            let thread = thread.spawn(move || {
                privileges::sample_only();
                let most = self.bounds.bytes;
                let gatherer = Gatherer::new(run, door, names, every, sendings, most);
                gatherer.run(&intervals, &scrapes)
            })?;
            Ok(Publishing { to, thread })
        };
        let begin = Box::new(begin);
        let publish = Publish {
            every,
            kept_for,
            asked,
            begin,
        };
        Ok((publish, outcomes))
    }
}

/// What becomes of a run's profiles.
pub struct Outcomes(Arc<OnceLock<Started>>);

/// What runs beside sampling.
struct Started {
    sendings: Arc<Vec<Sending>>,
    serving: Mutex<Option<Serving>>,
}

impl Outcomes {
    /// Ends it: what can be sent soon is, the rest stays in the spools.
    pub fn end(self) -> Vec<Outcome> {
        let deadline = Instant::now() + FAREWELL;
        let Some(started) = self.0.get() else {
            return Vec::new();
        };
        for sending in started.sendings.iter() {
            sending.end();
        }
        let serving = started.serving.lock();
        if let Some(serving) = serving.ok().and_then(|mut serving| serving.take()) {
            serving.end(deadline);
        }
        let outcomes = started.sendings.iter().map(|sending| {
            sending.wait(deadline);
            sending.outcome()
        });
        outcomes.collect()
    }
}

/// The name of a destination's folder: for people to read, and no two have the same. What waits for one account
/// there is never sent to another.
fn folder(destination: &Destination, account: &str) -> String {
    let protocol = destination
        .protocol
        .map_or("", |protocol| protocol.scheme());
    let mut name = String::new();
    let whole = format!("{protocol} {} {account}", destination.base);
    for byte in whole.trim_end().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => name.push(byte.into()),
            other => name.push_str(&format!("_{other:02x}")),
        }
    }
    name
}

/// Where spools are if nobody says where: systemd's folder for the service, else one for all.
pub fn usual_spool() -> PathBuf {
    let folder = std::env::var_os("STATE_DIRECTORY");
    let folder = folder.and_then(|folders| {
        let folders = folders.to_string_lossy().into_owned();
        folders.split(':').next().map(PathBuf::from)
    });
    folder
        .unwrap_or_else(|| Path::new("/var/lib/rprof").into())
        .join("spool")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders() {
        let of = |url, account| folder(&destination::parse(url).unwrap(), account);
        let folder = |url| of(url, "");
        assert_eq!(
            folder("parca+http://a:7070/x"),
            "parca_2bhttp_20http_3a_2f_2fa_3a7070_2fx"
        );
        assert_ne!(folder("parca+http://a"), folder("pyroscope+http://a"));
        assert_ne!(of("parca+http://a", "b"), of("parca+http://a", "c"));
    }
}
