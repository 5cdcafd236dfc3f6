//! Real servers that profiles are pushed to. Each is a Go module in `servers/`, built once, started on
//! free ports of the loopback interface with its files in the test's folder, and ended with its value.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::certificate::Certificate;
use crate::machine;
use crate::scratch::{Scratch, finish};

/// All that there are.
pub const ALL: [&str; 3] = ["parca", "collector", "pyroscope"];
/// Its program, which its module has as a tool.
const PARCA: &str = "github.com/parca-dev/parca/cmd/parca";
/// To the first answer.
const START: Duration = Duration::from_secs(60);

/// A server that runs; killed and waited for when dropped.
pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT`, for HTTP.
    pub address: String,
    /// `127.0.0.1:PORT`, for gRPC.
    pub grpc: String,
    /// What it received, a line of JSON each.
    received: PathBuf,
}

/// Parca 0.28, without its pages for browsers. Both protocols are on one port.
pub fn parca(scratch: &Scratch) -> Server {
    let binary = built("parca");
    let files = scratch.file("parca").display().to_string();
    let bucket = json!({"type": "FILESYSTEM", "config": {"directory": files}});
    let config = json!({"object_storage": {"bucket": bucket}}).to_string();
    let config = scratch.write("parca.json", &config);
    let address = free();
    let mut command = Command::new(binary);
    command
        .arg(format!("--config-path={}", config.display()))
        .arg(format!("--http-address={address}"))
        .arg(format!("--debuginfo-cache-dir={files}"))
        // It would ask others for the symbols of what has none.
        .arg("--debuginfod-upstream-servers=")
        .arg("--storage-active-memory=67108864");
    Server::start(scratch, "parca", command, address.clone(), address)
}

/// OpenTelemetry's collector: its OTLP receiver, and what came in.
pub fn collector(scratch: &Scratch) -> Server {
    collector_with(scratch, None)
}

/// The same, whose gRPC is by TLS.
pub fn secure_collector(scratch: &Scratch, certificate: &Certificate) -> Server {
    collector_with(scratch, Some(certificate))
}

fn collector_with(scratch: &Scratch, certificate: Option<&Certificate>) -> Server {
    let (address, grpc) = (free(), free());
    let mut command = Command::new(built("collector"));
    command.args(["-http", &address, "-grpc", &grpc]);
    if let Some(Certificate {
        files: [own, key], ..
    }) = certificate
    {
        command.arg("-certificate").arg(own).arg("-key").arg(key);
    }
    Server::start(scratch, "collector", command, address, grpc)
}

/// What receives profiles as Pyroscope does, by the handler of its published API.
pub fn pyroscope(scratch: &Scratch) -> Server {
    let address = free();
    let mut command = Command::new(built("pyroscope"));
    command.args(["-address", &address]);
    Server::start(scratch, "pyroscope", command, address.clone(), address)
}

impl Server {
    fn start(
        scratch: &Scratch,
        name: &str,
        mut command: Command,
        address: String,
        grpc: String,
    ) -> Self {
        let received = scratch.file(&format!("{name}.jsonl"));
        if name != "parca" {
            command.arg("-output").arg(&received);
        }
        let log = scratch.file(&format!("{name}.log"));
        let to = || File::create(&log).expect("a file in the test's folder");
        command.current_dir(scratch.path()).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(to()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut server = Self {
            child,
            address,
            grpc,
            received,
        };
        machine::wait_for(name, START, || {
            let ended = server.child.try_wait().expect("our own child");
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert_eq!(ended, None, "{name} ended:\n{}", said());
            let both = [&server.address, &server.grpc];
            both.into_iter()
                .all(|address| TcpStream::connect(address).is_ok())
                .then_some(())
        });
        server
    }

    /// What it received so far.
    ///
    /// # Panics
    /// If it writes no such file, as Parca.
    pub fn received(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.received).expect("what it received");
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("JSON")
    }

    /// What it answers to `GET PATH?PARAMETERS`.
    ///
    /// # Panics
    /// If that is an error, or no JSON.
    pub fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["-sSG", "--fail-with-body"]);
        for (name, value) in parameters {
            curl.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        let said = finish(curl.arg(format!("http://{}{path}", self.address)));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens at.
fn free() -> String {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    free.expect("a free port").to_string()
}

/// The program of the module `servers/NAME`, with what it needs fetched and built the first time.
///
/// # Panics
/// With all that Go says, if it cannot be built.
pub fn built(name: &str) -> PathBuf {
    let package = if name == "parca" { PARCA } else { "." };
    static BUILDING: Mutex<()> = Mutex::new(());
    // One after the other: each takes all CPUs. A test that failed to build leaves nothing half done.
    let _building = BUILDING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("servers")
        .join(name);
    let binary = machine::build_folder().join("../servers").join(name);
    let mut go = Command::new("go");
    go.current_dir(folder)
        .args(["build", "-mod=readonly", "-buildvcs=false", "-o"])
        .arg(&binary)
        .arg(package);
    let built = go.output().unwrap_or_else(|error| {
        panic!("go: {error}. tests/servers needs Go, as .ci/run installs it")
    });
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(
        built.status.success(),
        "{name} is not built (tests/servers needs Go, as .ci/run installs it):\n{said}"
    );
    binary
}
