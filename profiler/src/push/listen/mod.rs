//! `--listen`: who comes gets a profile of the time that begins then, or the run's figures. A thread of its own
//! serves all of them: one that is slow, or says nothing, keeps only itself waiting.
//!
//! | path | what is there |
//! |---|---|
//! | `/debug/pprof/profile?seconds=N` | a profile, as `net/http/pprof` of Go has it: Parca, Pyroscope and `go tool pprof` come for it |
//! | `/metrics` | the figures, for Prometheus |
//! | `/healthz` | whether sampling goes on |

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::Sender;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::runtime::Builder;
use tokio::sync::{Mutex, Notify, Semaphore, oneshot};

use super::gather::Scrape;
use super::sender::Sending;
use crate::cli::Failure;
use crate::cli::failure::reason;
use crate::sampling::door::Door;
use crate::sampling::privileges;
use crate::sampling::standing::Standing;

mod metrics;

/// Connections at a time; others wait.
const CONNECTIONS: usize = 512;
/// For a request to be said, and for its answer to be read.
const TO_ASK: Duration = Duration::from_secs(5);
const TO_READ: Duration = Duration::from_secs(30);
/// For the run's own loop to say how it stands.
const TO_SAY: Duration = Duration::from_secs(5);
/// How long what it has said stands.
const STANDS: Duration = Duration::from_millis(100);
/// How long a profile is if nobody says (net/http/pprof), and at most.
const SECONDS: u64 = 30;
const MOST_SECONDS: u64 = 3600;

const INDEX: &str = "rprof\n\n/debug/pprof/profile?seconds=30  a profile, for go tool pprof, Parca, Pyroscope\n\
                     /metrics  figures, for Prometheus\n/healthz  whether sampling goes on\n";

/// A place that is listened on.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Answers are being given.
#[derive(Debug)]
pub struct Serving {
    stop: oneshot::Sender<()>,
    ended: crossbeam_channel::Receiver<Infallible>,
}

/// What answers are made from.
struct Sources {
    scrapes: Sender<Scrape>,
    door: Door,
    sendings: Arc<Vec<Sending>>,
    figures: metrics::Figures,
    /// What the run's own loop has said, and when: many who come at once are one question.
    said: Mutex<Option<(Instant, Option<Standing>)>>,
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// The address is in use, or not ours.
    pub fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let bound = TcpListener::bind(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        });
        bound.map_err(|error| {
            let what = format!("cannot listen on {address}: {}", reason(&error));
            Failure::new(what).next(format!("ss -ltnp sport = :{}", address.port()))
        })
    }

    /// Where it is: the port is known now.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves whoever comes.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn serve(
        self,
        scrapes: Sender<Scrape>,
        door: Door,
        sendings: Arc<Vec<Sending>>,
    ) -> io::Result<Serving> {
        let sources = Arc::new(Sources {
            scrapes,
            door,
            sendings,
            figures: metrics::Figures::default(),
            said: Mutex::default(),
        });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (running, ended) = crossbeam_channel::bounded(0);
        let serve = move || {
            privileges::sample_only();
            runtime.block_on(accept(self.socket, sources, stopped));
            drop(running);
        };
        std::thread::Builder::new()
            .name("rprof-listen".into())
            .spawn(serve)?;
        Ok(Serving { stop, ended })
    }
}

impl Serving {
    /// Ends it: answers that are on their way are finished until then.
    pub fn end(self, deadline: Instant) {
        drop(self.stop);
        let _ = self.ended.recv_deadline(deadline);
    }
}

async fn accept(socket: TcpListener, sources: Arc<Sources>, stopped: oneshot::Receiver<()>) {
    let Ok(socket) = tokio::net::TcpListener::from_std(socket) else {
        return;
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let open = GracefulShutdown::new();
    let mut stopped = std::pin::pin!(stopped);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, socket.accept().await)
        };
        let stream = match either(next, &mut stopped).await {
            Some((Ok(place), Ok((stream, _)))) => (place, stream),
            // Out of descriptors, say: those that are open end some time.
            Some(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            None => break,
        };
        let (place, stream) = stream;
        let sources = sources.clone();
        let answered = Arc::new(Notify::new());
        let done = answered.clone();
        let answer = service_fn(move |request| {
            let (sources, answered) = (sources.clone(), answered.clone());
            async move {
                let answer = answer(&request, &sources).await;
                answered.notify_one();
                Ok::<_, Infallible>(answer)
            }
        });
        // One request each: who wants more comes again, and finds a place if there is one.
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(TO_ASK)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer);
        let connection = open.watch(connection);
        tokio::spawn(async move {
            let late = async {
                done.notified().await;
                tokio::time::sleep(TO_READ).await;
            };
            // Whoever goes away in the middle has what they wanted.
            tokio::select! {
                _ = connection => {}
                () = late => {}
            }
            drop(place);
        });
    }
    open.shutdown().await;
}

/// What comes of it; `None`: `stopped` came before.
async fn either<T>(
    next: impl Future<Output = T>,
    stopped: &mut std::pin::Pin<&mut oneshot::Receiver<()>>,
) -> Option<T> {
    let mut next = std::pin::pin!(next);
    std::future::poll_fn(|context| {
        use std::task::Poll;
        if stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        next.as_mut().poll(context).map(Some)
    })
    .await
}

type Answer = Response<Full<Bytes>>;

async fn answer(request: &Request<Incoming>, sources: &Arc<Sources>) -> Answer {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let allowed = header::HeaderValue::from_static("GET, HEAD");
        answer.headers_mut().insert(header::ALLOW, allowed);
        return answer;
    }
    match request.uri().path() {
        "/" | "/debug/pprof" | "/debug/pprof/" => text(StatusCode::OK, INDEX),
        "/debug/pprof/profile" => {
            let seconds = seconds(request.uri().query().unwrap_or_default());
            match seconds {
                Ok(time) => profile(sources, time).await,
                Err(why) => text(StatusCode::BAD_REQUEST, why),
            }
        }
        "/metrics" => match standing(sources).await {
            Some(standing) => {
                let text = sources.figures.text(&standing, &sources.sendings);
                with(StatusCode::OK, metrics::CONTENT_TYPE, text)
            }
            None => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "sampling does not answer\n",
            ),
        },
        "/healthz" => match standing(sources).await {
            Some(_) if !sources.sendings.iter().all(Sending::lives) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "a thread that sends profiles has died\n",
            ),
            Some(_) => text(StatusCode::OK, "ok\n"),
            None => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "sampling does not answer\n",
            ),
        },
        _ => text(StatusCode::NOT_FOUND, INDEX),
    }
}

/// How the run stands.
async fn standing(sources: &Sources) -> Option<Standing> {
    let mut said = sources.said.lock().await;
    if let Some((at, standing)) = &*said
        && at.elapsed() < STANDS
    {
        return standing.clone();
    }
    let coming = sources.door.standing();
    let until = Instant::now() + TO_SAY;
    let standing = loop {
        match coming.try_recv() {
            Ok(standing) => break Some(standing),
            Err(crossbeam_channel::TryRecvError::Disconnected) => break None,
            Err(_) if Instant::now() > until => break None,
            // The other side knows nothing of this runtime.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    *said = Some((Instant::now(), standing.clone()));
    standing
}

async fn profile(sources: &Sources, time: Duration) -> Answer {
    let (to, packed) = oneshot::channel();
    let busy = |why: &str| {
        let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
        let wait = header::HeaderValue::from_static("10");
        answer.headers_mut().insert(header::RETRY_AFTER, wait);
        answer
    };
    if sources.scrapes.try_send(Scrape { time, to }).is_err() {
        return busy("no more profiles at a time");
    }
    match packed.await {
        Ok(Ok(packed)) => {
            let mut answer = with(StatusCode::OK, "application/octet-stream", packed);
            let name = header::HeaderValue::from_static("attachment; filename=\"profile.pb.gz\"");
            answer
                .headers_mut()
                .insert(header::CONTENT_DISPOSITION, name);
            answer
        }
        Ok(Err(why)) => busy(&why),
        Err(_) => busy("sampling is over"),
    }
}

/// The time that a query asks for.
fn seconds(query: &str) -> Result<Duration, String> {
    let value = query
        .split('&')
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| *name == "seconds")
        .map(|(_, value)| value);
    let seconds = match value {
        None | Some("") => Some(SECONDS),
        Some(value) => value.parse().ok(),
    };
    let seconds = seconds.filter(|seconds| (1..=MOST_SECONDS).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        format!("seconds is a whole number from 1 to {MOST_SECONDS}, as in ?seconds={SECONDS}\n")
    })
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with(status, "text/plain; charset=utf-8", body)
}

fn with(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    // A profile is for who asked: no page of another origin is to guess what it might be.
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long() {
        let seconds = |query| seconds(query).map(|time| time.as_secs()).ok();
        assert_eq!(seconds(""), Some(30));
        assert_eq!(seconds("seconds="), Some(30));
        assert_eq!(seconds("debug=0&seconds=10"), Some(10));
        for query in ["seconds=0", "seconds=x", "seconds=-1", "seconds=3601"] {
            assert_eq!(seconds(query), None, "{query}");
        }
    }
}
