//! Just enough of Postgres' protocol to run a statement on a local server that trusts us, so that
//! this crate needs no driver. Blocking, because databases are also dropped in `Drop`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An open session of user `postgres`.
#[derive(Debug)]
pub(crate) struct Session {
    stream: TcpStream,
}

impl Session {
    /// Opens a session; `limit` bounds the connect and every later read and write.
    pub(crate) fn open(addr: SocketAddr, database: &str, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let mut session = Self { stream };
        let parameters = format!("user\0postgres\0database\0{database}\0\0");
        let length = (8 + parameters.len()) as u32;
        let mut startup = length.to_be_bytes().to_vec();
        startup.extend_from_slice(&(3_u32 << 16).to_be_bytes()); // protocol 3.0
        startup.extend_from_slice(parameters.as_bytes());
        session.stream.write_all(&startup)?;
        session.until_idle()?;
        Ok(session)
    }

    /// Runs one statement and throws its rows away.
    pub(crate) fn run(&mut self, sql: &str) -> io::Result<()> {
        let mut query = vec![b'Q'];
        query.extend_from_slice(&((4 + sql.len() + 1) as u32).to_be_bytes());
        query.extend_from_slice(sql.as_bytes());
        query.push(0);
        self.stream.write_all(&query)?;
        self.until_idle()
    }

    /// Reads messages up to ReadyForQuery; an ErrorResponse on the way becomes the error.
    fn until_idle(&mut self) -> io::Result<()> {
        let mut failure = None;
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; (length as usize).saturating_sub(4)];
            self.stream.read_exact(&mut body)?;
            match head[0] {
                b'Z' => return failure.map_or(Ok(()), Err),
                b'E' => failure = Some(io::Error::other(message(&body))),
                // Authentication: 0 is "ok", all else would want a password.
                b'R' if body != [0; 4] => return Err(io::Error::other("asks for a password")),
                _ => {}
            }
            // At session start an error is the server's last word.
            if head[0] == b'E' && self.stream.peek(&mut [0]).is_ok_and(|n| n == 0) {
                return failure.map_or(Ok(()), Err);
            }
        }
    }
}

/// The human-readable field of an ErrorResponse.
fn message(body: &[u8]) -> String {
    let mut fields = body.split(|&b| b == 0);
    let field = fields.find(|f| f.first() == Some(&b'M'));
    String::from_utf8_lossy(field.map_or(b"an error".as_slice(), |f| &f[1..])).into_owned()
}
