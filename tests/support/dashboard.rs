//! A server that profiles are pushed to, and that does what a test tells it: it takes them, refuses, is cut
//! off, or says nothing. It speaks just enough HTTP for Pyroscope's push; what real servers make of a push is
//! for the tests with real servers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine;
use serde_json::Value;

use crate::profile::Profile;

/// A server on the loopback interface, for as long as the test runs.
pub struct Dashboard {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    deed: Mutex<Doer>,
    /// So many requests are read half, and their connections closed.
    cuts: AtomicU32,
    requests: Mutex<Vec<Request>>,
    series: Mutex<Vec<Series>>,
    secure: Option<Arc<rustls::ServerConfig>>,
}

/// Decides what is done with a request.
type Doer = Box<dyn FnMut(&Request) -> Deed + Send>;

/// What is done with a request.
pub enum Deed {
    /// It is taken, as Pyroscope would.
    Take,
    /// It is taken but for the series of one service, as Pyroscope does.
    TakeBut(&'static str),
    /// It is answered so, with one more header line perhaps, and not taken.
    Say(u16, &'static str, &'static str),
    /// It is read, taken, and never answered: the connection is closed.
    TakeAndCut,
    /// It is never answered.
    Silence,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it came.
    pub at: Instant,
    /// Its path.
    pub path: String,
    /// Its headers, their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// What it brought.
    pub series: Vec<Series>,
}

/// A profile of one service.
#[derive(Clone, Debug)]
pub struct Series {
    /// What makes it one and the same when it comes again.
    pub id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Itself.
    pub profile: Profile,
}

impl Series {
    /// Its service.
    pub fn service(&self) -> &str {
        &self.labels["service_name"]
    }
}

impl Dashboard {
    /// One that takes everything.
    pub fn start() -> Self {
        Self::on(free())
    }

    /// One at this address.
    pub fn on(address: SocketAddr) -> Self {
        Self::serve(address, None)
    }

    /// One that speaks TLS.
    pub fn secure(config: rustls::ServerConfig) -> Self {
        Self::serve(free(), Some(Arc::new(config)))
    }

    fn serve(address: SocketAddr, secure: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            deed: Mutex::new(Box::new(|_| Deed::Take)),
            cuts: AtomicU32::new(0),
            requests: Mutex::default(),
            series: Mutex::default(),
            secure,
        });
        let server = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = server.clone();
                std::thread::spawn(move || shared.connection(stream));
            }
        });
        Self { address, shared }
    }

    /// From now on it does this.
    pub fn does(&self, deed: impl FnMut(&Request) -> Deed + Send + 'static) {
        *self.shared.deed.lock().expect("no test panicked in it") = Box::new(deed);
    }

    /// The connections of so many requests are closed in the middle of them.
    pub fn cuts(&self, requests: u32) {
        self.shared.cuts.store(requests, Relaxed);
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its push URL.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// Requests that came.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("whole").clone()
    }

    /// What it has taken, in the order in which it came; what came twice is there once.
    pub fn series(&self) -> Vec<Series> {
        let mut known = BTreeSet::new();
        let mut series = self.shared.series.lock().expect("whole").clone();
        series.retain(|series| known.insert(series.id.clone()));
        series
    }

    /// Samples in what it has taken.
    pub fn samples(&self) -> u64 {
        self.series().iter().map(|s| s.profile.samples()).sum()
    }
}

/// A port that nobody listens on.
pub fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// The push URL of a server at this address.
pub fn url(address: SocketAddr) -> String {
    format!("pyroscope+http://{address}")
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Shared {
    fn connection(&self, stream: TcpStream) {
        let stream: Box<dyn Stream> = match &self.secure {
            None => Box::new(stream),
            Some(config) => {
                let connection = rustls::ServerConnection::new(config.clone()).expect("a config");
                Box::new(rustls::StreamOwned::new(connection, stream))
            }
        };
        let mut stream = BufReader::new(stream);
        // Whoever closes the connection, or says what is no request, is left alone.
        while self.request(&mut stream).is_some() {}
    }

    /// One request and its answer; `None`: the connection is over.
    fn request(&self, stream: &mut BufReader<Box<dyn Stream>>) -> Option<()> {
        let mut line = || {
            let mut line = String::new();
            let n = stream.read_line(&mut line).ok()?;
            (n > 0).then(|| line.trim_end().to_string())
        };
        let path = line()?.split(' ').nth(1)?.to_string();
        let mut headers = BTreeMap::new();
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_string());
        }
        let length: usize = headers.get("content-length")?.parse().ok()?;
        let mut body = vec![0; length];
        stream.read_exact(body.get_mut(..length / 2)?).ok()?;
        let cut = |left: u32| left.checked_sub(1);
        if self.cuts.fetch_update(Relaxed, Relaxed, cut).is_ok() {
            return None;
        }
        stream.read_exact(body.get_mut(length / 2..)?).ok()?;
        let request = Request {
            at: Instant::now(),
            headers,
            // Who asks what it is sends other things, too.
            series: match path.starts_with("/push.v1.") {
                true => series(&body),
                false => Vec::new(),
            },
            path,
        };
        let deed = (self.deed.lock().expect("no test panicked in it"))(&request);
        let mut taken = request.series.clone();
        self.requests.lock().expect("whole").push(request);
        let refused;
        let (status, header, body) = match deed {
            Deed::Take => (200, "", "{}"),
            Deed::TakeBut(service) => {
                let not = (0..).zip(&taken).filter(|(_, s)| s.service() == service);
                let not: Vec<String> = not.map(|(n, s)| refusal(n, s)).collect();
                taken.retain(|series| series.service() != service);
                match not.as_slice() {
                    [] => (200, "", "{}"),
                    not => {
                        self.series.lock().expect("whole").append(&mut taken);
                        let all = match not {
                            [one] => one.clone(),
                            all => format!("{} errors: {}", all.len(), all.join("; ")),
                        };
                        refused =
                            format!("{{\"code\":\"invalid_argument\",\"message\":\"{all}\"}}");
                        (400, "", refused.as_str())
                    }
                }
            }
            Deed::Say(status, header, body) => (status, header, body),
            Deed::TakeAndCut => {
                self.series.lock().expect("whole").extend(taken);
                return None;
            }
            Deed::Silence => loop {
                std::thread::park();
            },
        };
        if status == 200 {
            self.series.lock().expect("whole").extend(taken);
        }
        let answer = format!(
            "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{header}\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
        stream.get_mut().flush().ok()
    }
}

/// What Pyroscope says of a series that it does not take.
fn refusal(n: usize, series: &Series) -> String {
    format!(
        "push series with index {n} and id {} failed: no burning here",
        series.id
    )
}

/// What a push of Pyroscope's protocol brings.
fn series(body: &[u8]) -> Vec<Series> {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let all = body["series"].as_array().expect("series");
    let all = all.iter().map(|series| {
        let labels = series["labels"].as_array().expect("labels").iter();
        let labels = labels.map(|label| {
            let text = |key: &str| label[key].as_str().expect("a text").to_string();
            (text("name"), text("value"))
        });
        let sample = &series["samples"][0];
        let packed = sample["rawProfile"].as_str().expect("a profile");
        let packed = base64::engine::general_purpose::STANDARD
            .decode(packed)
            .expect("base64");
        Series {
            id: sample["ID"].as_str().expect("an id").into(),
            labels: labels.collect(),
            profile: Profile::decode(&packed),
        }
    });
    all.collect()
}
