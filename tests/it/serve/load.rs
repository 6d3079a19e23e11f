//! Visitors: closed loops over keep-alive connections, that count what went wrong.
//!
//! A visitor does what browsers do: it opens a connection, asks one thing after the other on it, and
//! where an idle connection turns out to be closed before a byte of an answer, it asks again on a
//! new one if asking has no effect, or if nothing could be sent. Everything else is a failure.

use crate::support::host::Host;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A page that never ends is a failure, too.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one kind of visitor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Reads pages.
    Read,
    /// Sends forms.
    Write,
    /// Sends forms, each on a connection of its own.
    WriteAlone,
    /// Fetches something long, slowly.
    Download,
}

/// Where visitors knock, and how.
#[derive(Clone)]
pub(crate) struct Door {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl From<SocketAddr> for Door {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

impl Door {
    /// Over TLS, with HTTP/1.1, from somebody who believes this certificate.
    pub(crate) fn over_tls(address: SocketAddr, certificate: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(certificate.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            address,
            tls: Some(Arc::new(config)),
        }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn over_tls(config: &Arc<ClientConfig>, site: &str, stream: TcpStream) -> Self {
        let name = site.to_owned().try_into().unwrap();
        let connection = ClientConnection::new(config.clone(), name).unwrap();
        Self::Tls(Box::new(StreamOwned::new(connection, stream)))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// What came of all visits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Answers with 200 and the whole of what was asked for.
    pub(crate) good: BTreeMap<Kind, usize>,
    /// Everything else, in words.
    pub(crate) failed: Vec<(Kind, String)>,
    /// Each different first line of a page, with when it was seen first and last.
    pub(crate) seen: BTreeMap<String, (Instant, Instant)>,
    /// The longest wait for a page.
    pub(crate) longest: Duration,
}

impl Tally {
    /// How many answers were good.
    pub(crate) fn total(&self) -> usize {
        self.good.values().sum()
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let of = |kind| self.good.get(&kind).copied().unwrap_or_default();
        format!(
            "{} pages, {} forms, {} downloads, {} failed, longest page {:?}",
            of(Kind::Read),
            of(Kind::Write) + of(Kind::WriteAlone),
            of(Kind::Download),
            self.failed.len(),
            self.longest
        )
    }

    /// What went wrong, each kind of it once, with how often.
    pub(crate) fn failures(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (kind, how) in &self.failed {
            *counts.entry(format!("{kind:?}: {how}")).or_insert(0) += 1;
        }
        counts
    }
}

/// Visitors that go on until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Starts readers, writers and downloaders on a host, of one site, at one address.
    pub(crate) fn start(from: &Host, at: SocketAddr, site: &str, visitors: [usize; 3]) -> Self {
        let kinds = [Kind::Read, Kind::Write, Kind::Download];
        let visitors: Vec<_> = kinds.into_iter().zip(visitors).collect();
        Self::with(from, at, site, &visitors)
    }

    /// Starts so many visitors of each kind.
    pub(crate) fn with(
        from: &Host,
        at: impl Into<Door>,
        site: &str,
        visitors: &[(Kind, usize)],
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (stopped, counted) = (stop.clone(), tally.clone());
        let (pid, site, at) = (from.init_pid(), site.to_owned(), at.into());
        let visitors = visitors.to_vec();
        let thread = std::thread::spawn(move || {
            enter_network(pid);
            let (at, site, stopped, counted) = (&at, &site, &stopped, &counted);
            std::thread::scope(|scope| {
                for (kind, count) in visitors {
                    for _ in 0..count {
                        // Threads begin in the network of the one that starts them.
                        scope.spawn(move || visit(kind, at, site, stopped, counted));
                    }
                }
            });
        });
        Self {
            stop,
            tally,
            thread: Some(thread),
        }
    }

    /// Ends all visits; what is being asked for is finished first.
    pub(crate) fn end(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("once").join();
        ended.expect("the visitors ended");
        self.tally.lock().unwrap().clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn enter_network(pid: u32) {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::os::fd::AsFd;
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("open");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
}

fn visit(kind: Kind, at: &Door, site: &str, stop: &AtomicBool, tally: &Mutex<Tally>) {
    let mut connection: Option<BufReader<Stream>> = None;
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let began = Instant::now();
        let asked = ask(&mut connection, kind, at, site, turn);
        let took = began.elapsed();
        let mut tally = tally.lock().unwrap();
        match asked {
            Ok(first_line) => {
                *tally.good.entry(kind).or_insert(0) += 1;
                if kind != Kind::Download {
                    tally.longest = tally.longest.max(took);
                }
                let seen = tally.seen.entry(first_line).or_insert((began, began));
                seen.1 = began;
            }
            Err(how) => {
                connection = None;
                tally.failed.push((kind, how));
            }
        }
        drop(tally);
        // Visitors read what they got.
        std::thread::sleep(Duration::from_millis(15));
    }
}

fn ask(
    connection: &mut Option<BufReader<Stream>>,
    kind: Kind,
    at: &Door,
    site: &str,
    turn: usize,
) -> Result<String, String> {
    if kind == Kind::WriteAlone {
        *connection = None;
    }
    let was_open = connection.is_some();
    let request = request(kind, site, turn);
    match once(connection, kind, at, site, &request) {
        // The other side had closed an idle connection: nothing of an answer came.
        Err(Trouble::Closed) if was_open && kind != Kind::Write => {
            *connection = None;
            once(connection, kind, at, site, &request).map_err(Trouble::words)
        }
        other => other.map_err(Trouble::words),
    }
}

enum Trouble {
    /// Closed before the first byte of an answer.
    Closed,
    Other(String),
}

impl Trouble {
    fn words(self) -> String {
        match self {
            Self::Closed => "closed without an answer".into(),
            Self::Other(how) => how,
        }
    }
}

fn request(kind: Kind, site: &str, turn: usize) -> Vec<u8> {
    match kind {
        Kind::Read => {
            format!("GET /index.php?{turn} HTTP/1.1\r\nHost: {site}\r\n\r\n").into_bytes()
        }
        Kind::Write | Kind::WriteAlone => {
            let form = "x".repeat(20_000 + turn % 1_000);
            format!(
                "POST /form.php HTTP/1.1\r\nHost: {site}\r\nContent-Type: text/plain\r\n\
                 Content-Length: {}\r\n\r\n{form}",
                form.len()
            )
            .into_bytes()
        }
        Kind::Download => {
            format!("GET /download.php HTTP/1.1\r\nHost: {site}\r\n\r\n").into_bytes()
        }
    }
}

/// Bytes of a download.
pub(crate) const DOWNLOAD_BYTES: usize = 40 * 65_536;

fn once(
    connection: &mut Option<BufReader<Stream>>,
    kind: Kind,
    at: &Door,
    site: &str,
    request: &[u8],
) -> Result<String, Trouble> {
    let other = |error: std::io::Error| Trouble::Other(error.to_string());
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&at.address, PATIENCE).map_err(other)?;
            stream.set_nodelay(true).map_err(other)?;
            stream.set_read_timeout(Some(PATIENCE)).map_err(other)?;
            let stream = match &at.tls {
                Some(tls) => Stream::over_tls(tls, site, stream),
                None => Stream::Plain(stream),
            };
            connection.insert(BufReader::new(stream))
        }
    };
    let sent = stream.get_mut().write_all(request);
    if sent.and_then(|()| stream.get_mut().flush()).is_err() {
        return Err(Trouble::Closed);
    }
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(0) => return Err(Trouble::Closed),
        Ok(_) => {}
        Err(error) if line.is_empty() && error.kind() != std::io::ErrorKind::WouldBlock => {
            return Err(Trouble::Closed);
        }
        Err(error) => return Err(other(error)),
    }
    let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut is_chunked, mut closes) = (None, false, false);
    loop {
        let mut header = String::new();
        if stream.read_line(&mut header).map_err(other)? == 0 {
            return Err(Trouble::Other("cut off in the headers".into()));
        }
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse::<usize>().ok();
        }
        is_chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
        closes |= header == "connection: close";
    }
    let body = match (is_chunked, length) {
        (true, _) => chunks(stream)?,
        (false, Some(length)) => {
            let mut body = vec![0; length];
            stream
                .read_exact(&mut body)
                .map_err(|_| Trouble::Other("cut off in the body".into()))?;
            body
        }
        (false, None) => {
            return Err(Trouble::Other(format!("status {status} without a length")));
        }
    };
    if closes {
        *connection = None;
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    let first_line = text.lines().next().unwrap_or_default().to_owned();
    if status != "200" {
        return Err(Trouble::Other(format!("status {status}: {first_line}")));
    }
    if kind == Kind::Download && body.len() != DOWNLOAD_BYTES {
        return Err(Trouble::Other(format!(
            "{} bytes of a download",
            body.len()
        )));
    }
    match kind {
        Kind::Download => Ok("download".into()),
        _ => Ok(first_line),
    }
}

fn chunks(stream: &mut BufReader<Stream>) -> Result<Vec<u8>, Trouble> {
    let cut = |_| Trouble::Other("cut off in a chunk".into());
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        if stream.read_line(&mut size).map_err(cut)? == 0 {
            return Err(Trouble::Other("cut off between chunks".into()));
        }
        let size = usize::from_str_radix(size.trim(), 16)
            .map_err(|_| Trouble::Other(format!("not a chunk: {size:?}")))?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).map_err(cut)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
