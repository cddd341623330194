//! Just enough of Redis' protocol for one command and its answer.

use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

const ANSWER: Duration = Duration::from_secs(5);

pub(super) async fn command(addr: SocketAddr, words: &[&str]) -> Result<String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    let exchange = async {
        let mut stream = BufReader::new(TcpStream::connect(addr).await?);
        stream.write_all(request.as_bytes()).await?;
        answer(&mut stream).await
    };
    let command = words.first().unwrap_or(&"");
    timeout(ANSWER, exchange)
        .await
        .with_context(|| format!("Redis does not answer `{command}` within {ANSWER:?}"))?
        .with_context(|| format!("run `{command}` on Redis"))
}

/// Reads one answer; the elements of arrays, however deep, become lines.
async fn answer(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut lines = Vec::new();
    let mut expected = 1_u64;
    while expected > 0 {
        expected -= 1;
        let mut head = String::new();
        stream
            .read_line(&mut head)
            .await
            .context("read an answer")?;
        let head = head.trim_end();
        let Some((kind, rest)) = head.split_at_checked(1) else {
            bail!("the connection was closed");
        };
        match kind {
            "+" | ":" => lines.push(rest.to_owned()),
            "-" => bail!("{rest}"),
            "*" => expected += rest.parse::<u64>().unwrap_or(0),
            "$" => match rest.parse::<usize>() {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    stream
                        .read_exact(&mut bytes)
                        .await
                        .context("read an answer")?;
                    lines.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
                }
                // -1 stands for nil.
                Err(_) => lines.push(String::new()),
            },
            _ => bail!("an answer of an unknown kind: {head}"),
        }
    }
    Ok(lines.join("\n"))
}
