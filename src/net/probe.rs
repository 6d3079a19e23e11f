//! Short questions to programs on this machine: is a port free, does a socket accept, what does a
//! page on loopback say.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// LIMIT: bytes of an answer that are read.
const MAX_BYTES: u64 = 64 << 10;

/// Could a program of this machine listen on the port, on all addresses?
pub fn is_port_free(port: u16) -> bool {
    let bind = |address: IpAddr| -> io::Result<()> {
        let socket = match address {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(address, port))?;
        // Binding alone says nothing against another that listens with the same option.
        socket.listen(1).map(drop)
    };
    match bind(Ipv6Addr::UNSPECIFIED.into()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return false,
        // A machine without IPv6.
        Err(_) => {}
    }
    !bind(Ipv4Addr::UNSPECIFIED.into()).is_err_and(|it| it.kind() == io::ErrorKind::AddrInUse)
}

/// Does somebody accept connections on this socket?
pub async fn accepts(socket: &Path, limit: Duration) -> bool {
    let connected = tokio::time::timeout(limit, UnixStream::connect(socket)).await;
    matches!(connected, Ok(Ok(_)))
}

/// The status and the body of a page on loopback.
///
/// # Errors
/// Nobody listens there, or what comes isn't an answer.
pub async fn page(port: u16, path: &str, limit: Duration) -> io::Result<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_BYTES).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    };
    tokio::time::timeout(limit, asked)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_somebody_listens_on_is_not_free() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_port_free(port));
        drop(listener);
        assert!(is_port_free(port));
    }

    #[tokio::test]
    async fn a_page_has_a_status_and_a_body() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.unwrap();
            let answer = b"HTTP/1.1 503 Busy\r\nServer: x\r\n\r\nbody\n";
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let limit = Duration::from_secs(5);
        assert_eq!(
            page(port, "/x", limit).await.unwrap(),
            (503, "body\n".into())
        );
        assert!(served.await.unwrap().starts_with("GET /x HTTP/1.0\r\n"));
        assert!(page(port, "/x", limit).await.is_err());
        assert!(!accepts(Path::new("/no/such.sock"), limit).await);
    }
}
