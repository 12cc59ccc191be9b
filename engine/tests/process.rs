//! A collector as an operator runs it: the real program, its log lines, its metrics, its signals.
//!
//! In:   a data folder, settings, and which driver.
//! Out:  where it listens; log lines as they come; metrics; the rows that it left.
//! Law:  a test waits for what it expects to see, never for a time.
//! Not:  what is sent to it (`sender`).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, unbounded};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socket2::Socket;
use storage::log::{Filter, Ordered, read, read_ordered};
use storage::mapping::RouterId;
use storage::router::RouterState;
use storage::row::{Change, Row, SessionRow};

/// Longest wait for anything that is sure to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How the collector is made to drive its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `--io uring`.
    Uring,
    /// `--io epoll`.
    Epoll,
    /// `--io auto` where a seccomp filter denies `io_uring_setup`.
    Denied,
}

impl Way {
    /// All that this host can go: where it has no io_uring, the first is left out, loudly.
    pub(crate) fn all() -> Vec<Way> {
        match engine::io::uring::probe() {
            Ok(_) => vec![Way::Uring, Way::Epoll, Way::Denied],
            Err(error) => {
                eprintln!("no io_uring here, two ways are left: {error}");
                vec![Way::Epoll, Way::Denied]
            }
        }
    }

    /// The driver that turns the shards then.
    pub(crate) fn driver(self) -> &'static str {
        if self == Way::Uring { "uring" } else { "epoll" }
    }

    fn setting(self) -> &'static str {
        match self {
            Way::Uring => "uring",
            Way::Epoll => "epoll",
            Way::Denied => "auto",
        }
    }
}

/// What the kernel says of a process under this name; `None` where it does not say that.
pub(crate) fn status_of(process: &str, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
}

/// Runs a program where tracefs is mounted, and may be written.
const TRACED: &str = "\
mount -t tracefs tracefs /sys/kernel/tracing && test -w /sys/kernel/tracing/instances && \
test -d /sys/kernel/tracing/events/skb/kfree_skb && exec \"$0\" \"$@\"";

/// A running collector.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
    /// Where routers connect to.
    pub(crate) listen: SocketAddr,
    /// Where the HTTP side answers.
    pub(crate) http: SocketAddr,
    config: PathBuf,
    head: String,
}

impl Process {
    /// Starts a collector on `data`; `settings` is appended to its settings file.
    pub(crate) fn start(way: Way, data: &Path, settings: &str) -> Process {
        let program = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
        Process::start_program(program, way, data, settings)
    }

    /// The same with so many descriptors and no more.
    pub(crate) fn start_limited(way: Way, data: &Path, settings: &str, most: u32) -> Process {
        Process::start_after(way, data, settings, &format!("ulimit -n {most}"))
    }

    /// The same with a library that comes before the system's.
    pub(crate) fn start_preloaded(
        way: Way,
        data: &Path,
        settings: &str,
        library: &Path,
    ) -> Process {
        let mut program = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
        program.env("LD_PRELOAD", library);
        Process::start_program(program, way, data, settings)
    }

    /// The same from a shell that does something first.
    pub(crate) fn start_after(way: Way, data: &Path, settings: &str, first: &str) -> Process {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{first}; exec \"$0\" \"$@\""));
        shell.arg(env!("CARGO_BIN_EXE_stormdrain"));
        Process::start_program(shell, way, data, settings)
    }

    /// The same, with a standard error that nobody reads any more once it collects.
    pub(crate) fn start_deaf(way: Way, data: &Path, settings: &str) -> Process {
        let mut process = Process::start(way, data, settings);
        // The thread that reads ends with the channel, and the pipe with the thread.
        process.lines = unbounded().1;
        process
    }

    /// The same on listening sockets that this process holds, in their order.
    pub(crate) fn start_on(way: Way, data: &Path, settings: &str, sockets: &[Socket]) -> Process {
        let mut shell = Command::new("bash");
        // As a service manager does it: descriptors from 3 on, and whom they are for.
        let mut script = String::new();
        for (index, socket) in sockets.iter().enumerate() {
            socket.set_cloexec(false).unwrap();
            script.push_str(&format!("exec {}<&{}; ", 3 + index, socket.as_raw_fd()));
        }
        let count = sockets.len();
        script.push_str(&format!("export LISTEN_FDS={count} LISTEN_PID=$$; exec \"$0\" \"$@\""));
        shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_stormdrain"));
        Process::start_program(shell, way, data, settings)
    }

    /// The same on a file system of its own of so many bytes, which lies at `data` and which this
    /// process sees under `inside`; `None` where none can be mounted.
    pub(crate) fn start_on_small_disk(
        way: Way,
        data: &Path,
        settings: &str,
        bytes: u64,
    ) -> Option<Process> {
        let mut alone = vec!["--mount"];
        if !rustix::process::geteuid().is_root() {
            alone.push("--map-root-user");
        }
        let mount = format!("mount -t tmpfs -o size={bytes},mode=700 small \"$0\" && exec \"$@\"");
        std::fs::create_dir_all(data).unwrap();
        let in_shell = |program: &str| {
            let mut command = Command::new("unshare");
            command.args(&alone).args(["sh", "-c", &mount]).arg(data).arg(program);
            command
        };
        let tried = in_shell("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success()).then(|| {
            let program = in_shell(env!("CARGO_BIN_EXE_stormdrain"));
            Process::start_program(program, way, data, settings)
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The same where tracefs is mounted, for this collector alone; `None` where it cannot be.
    pub(crate) fn start_traced(way: Way, data: &Path, settings: &str) -> Option<Process> {
        let in_shell = |program: &str| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", TRACED, program]);
            command
        };
        let tried = in_shell("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success()).then(|| {
            let program = in_shell(env!("CARGO_BIN_EXE_stormdrain"));
            Process::start_program(program, way, data, settings)
        })
    }

    /// A path as the collector sees it.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        root.join(path.strip_prefix("/").unwrap())
    }

    fn start_program(mut command: Command, way: Way, data: &Path, settings: &str) -> Process {
        let config = data.with_extension("toml");
        let head = format!(
            "data = \"{}\"\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nio = \"{}\"\n\
             log_format = \"json\"\nsessions_per_minute_max = 100000\n",
            data.display(),
            way.setting()
        );
        std::fs::write(&config, format!("{head}{settings}")).unwrap();
        command.arg("run").arg("--config").arg(&config);
        command.env("RUST_LOG", "info").stderr(Stdio::piped()).stdin(Stdio::null());
        let mut child = spawn(way, command);
        let lines = json_lines(child.stderr.take().unwrap());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Process {
            child,
            lines,
            seen: Vec::new(),
            listen: nowhere,
            http: nowhere,
            config,
            head,
        };
        let line = process.line(|line| message(line) == "collecting");
        process.listen = line["fields"]["listen"].as_str().unwrap().parse().unwrap();
        process.http = line["fields"]["http"].as_str().unwrap().parse().unwrap();
        process
    }

    /// The first log line, of those so far and those to come, of which this is true.
    pub(crate) fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(line) = self.seen.iter().find(|line| wanted(line)) {
            return line.clone();
        }
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("the line did not come; those that did: {:#?}", self.seen);
            };
            self.seen.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    /// How many log lines there were of which this is true, until the collector ended.
    pub(crate) fn lines_seen(&mut self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.seen.extend(self.lines.iter());
        self.seen.iter().filter(|line| wanted(line)).count()
    }

    /// The sum of a metric's lines whose labels contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let text = self.page("/metrics");
        let values = text.lines().filter_map(|line| {
            let (head, value) = line.rsplit_once(' ')?;
            let (found, labels) = head.split_once('{').unwrap_or((head, ""));
            (found == name && labels.contains(label)).then(|| value.parse::<u64>().unwrap())
        });
        values.sum()
    }

    /// Waits until this is true of a metric.
    pub(crate) fn await_metric(&self, name: &str, label: &str, wanted: impl Fn(u64) -> bool) {
        let started = Instant::now();
        loop {
            let value = self.metric(name, label);
            if wanted(value) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{name} {label} stays {value}");
            std::thread::yield_now();
        }
    }

    /// Waits until every row that has been appended by now is durable.
    pub(crate) fn await_durable(&self) {
        let pushed = self.metric("stormdrain_rows_pushed_total", "");
        self.await_metric("stormdrain_rows_committed_total", "", |rows| rows >= pushed);
    }

    /// Waits until the HTTP side has a place for another client.
    pub(crate) fn await_answer(&self) {
        let started = Instant::now();
        while !self.page("/healthz").starts_with("HTTP/1.1 200") {
            assert!(started.elapsed() < PATIENCE, "the HTTP side stays full");
            std::thread::yield_now();
        }
    }

    /// A page of the HTTP side.
    pub(crate) fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The most memory that the process has had so far, in bytes, as the kernel counts it.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let peak = self.status("VmHWM").expect("every process has a peak");
        peak.trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
    }

    /// What the kernel says of the process under this name; `None` where it does not say that.
    pub(crate) fn status(&self, name: &str) -> Option<String> {
        status_of(&self.child.id().to_string(), name)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Writes other settings and sends SIGHUP; returns when they are in effect.
    pub(crate) fn reload(&mut self, settings: &str) {
        std::fs::write(&self.config, format!("{}{settings}", self.head)).unwrap();
        let reloaded = |line: &Value| message(line).contains("re-read");
        self.seen.retain(|line| !reloaded(line));
        self.signal(Signal::HUP);
        self.line(reloaded);
    }

    /// SIGTERM, and the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }

    /// SIGKILL, and the end.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Every log line of a process that has ended.
    pub(crate) fn last_lines(&mut self) -> Vec<Value> {
        self.seen.extend(self.lines.iter());
        self.seen.clone()
    }

    /// Waits for an end that nobody ordered.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    /// A test that failed leaves no collector behind.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The message of a log line.
pub(crate) fn message(line: &Value) -> &str {
    line["fields"]["message"].as_str().unwrap_or_default()
}

fn json_lines(stderr: impl Read + Send + 'static) -> Receiver<Value> {
    let (sender, receiver) = unbounded();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
            if sender.send(value).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A filter is inherited by what its thread starts: the thread that starts the child has it, and
/// no other.
fn spawn(way: Way, mut command: Command) -> Child {
    if way != Way::Denied {
        return command.spawn().unwrap();
    }
    let thread = std::thread::spawn(move || {
        deny_io_uring();
        command.spawn().unwrap()
    });
    thread.join().unwrap()
}

/// Runs the program to its end where io_uring is denied; `data` is the last argument.
pub(crate) fn run_denied(arguments: &[&str], data: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
    command.args(arguments).arg(data).stderr(Stdio::piped()).stdin(Stdio::null());
    spawn(Way::Denied, command).wait_with_output().unwrap()
}

fn deny_io_uring() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules: BTreeMap<i64, Vec<_>> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// Every router's state as the data folder tells it.
pub(crate) fn states(data: &Path) -> BTreeMap<RouterId, RouterState> {
    let mut states = BTreeMap::new();
    let filter = Filter { changes: true, sessions: true, ledger: true, ..Filter::NONE };
    read_ordered(data, &filter, &mut |ordered| match ordered {
        Ordered::StartOver(router) => {
            states.remove(&router);
        }
        Ordered::Row(router, row) => {
            states.entry(router).or_insert_with(|| RouterState::new(router)).replay(row);
        }
    })
    .unwrap();
    states
}

/// Every change row of the data folder.
pub(crate) fn changes(data: &Path) -> Vec<Change> {
    let mut changes = Vec::new();
    let filter = Filter { changes: true, ..Filter::NONE };
    read(data, &filter, &mut |row| {
        if let Row::Change(change) = row {
            changes.push(change);
        }
    })
    .unwrap();
    changes
}

/// Every session row of the data folder.
pub(crate) fn session_rows(data: &Path) -> Vec<SessionRow> {
    let mut rows = Vec::new();
    let filter = Filter { sessions: true, ..Filter::NONE };
    read(data, &filter, &mut |row| {
        if let Row::Session(row) = row {
            rows.push(row);
        }
    })
    .unwrap();
    rows
}

/// Asserts that nothing in the data folder is at fault: checksums, counts, orders, ledgers.
pub(crate) fn assert_sound(data: &Path) {
    let report = storage::log::verify(data).unwrap();
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
}
