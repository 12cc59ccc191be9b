//! The client: one collector's interface, asked over HTTP.
//!
//! In:   where the collector's HTTP side listens, the token if it wants one.
//! Out:  typed answers; or who is to blame, what was expected, and what to do.
//! Law:  no answer takes longer than `PATIENCE` or more memory than `ANSWER_BYTES_MAX`.
//! Not:  when to ask (`feed`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::http::api::Fault;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The routers of a fleet of 100,000 are 60 MB.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// A token is one line.
const TOKEN_BYTES_MAX: usize = 4_096;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The address is none.
    #[error("--http is `{found}`: expected HOST:PORT, such as 127.0.0.1:30311{hint}")]
    Address {
        /// What was written.
        found: String,
        /// What else to know.
        hint: &'static str,
    },
    /// The file of the token cannot be read.
    #[error("cannot read the token in {path}: {source}")]
    TokenFile {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds no token.
    #[error("{path} holds no token: expected one line of letters, digits and signs")]
    Token {
        /// Which.
        path: PathBuf,
    },
    /// Nobody listens there, or nobody answers.
    #[error("{address}: {told}; does a collector run there (setting `http`)?")]
    Silent {
        /// Where.
        address: String,
        /// What happened.
        told: String,
    },
    /// The collector wants to know who asks.
    #[error(
        "{address} wants a token: write the collector's into a file and name it by --token-file"
    )]
    Unauthorized {
        /// Where.
        address: String,
    },
    /// The collector refused to answer.
    #[error("{address} answers {status} to {path}: {told}")]
    Refused {
        /// Where.
        address: String,
        /// What was asked.
        path: String,
        /// The status of the answer.
        status: u16,
        /// What it said.
        told: String,
    },
    /// Somebody answers, but no collector that this program understands.
    #[error("{address}{path} is not what stormdrain {} expects: {told}", env!("CARGO_PKG_VERSION"))]
    Foreign {
        /// Where.
        address: String,
        /// What was asked.
        path: String,
        /// What was wrong with the answer.
        told: String,
    },
}

impl ClientError {
    /// Whether another command line would help.
    pub(super) fn is_usage(&self) -> bool {
        matches!(self, ClientError::Address { .. } | ClientError::Token { .. })
    }
}

/// Asks one collector.
#[derive(Clone, Debug)]
pub(super) struct Client {
    agent: Agent,
    address: String,
    authorization: Option<String>,
}

impl Client {
    /// A client of the collector whose HTTP side listens at `address`. Nothing is sent yet.
    pub(super) fn new(address: &str, token_file: Option<&Path>) -> Result<Client, ClientError> {
        let address = checked(address)?;
        let authorization =
            token_file.map(token).transpose()?.map(|token| format!("Bearer {token}"));
        let agent = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            // A proxy of the environment is for other hosts than the one that is named.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("stormdrain-top/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Client { agent, address, authorization })
    }

    /// Where it asks.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The answer of `/api/v1/` and this.
    pub(super) fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let path = format!("/api/v1/{path}");
        let silent = |told: String| ClientError::Silent { address: self.address.clone(), told };
        let mut request = self.agent.get(format!("http://{}{path}", self.address));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut answer = request.call().map_err(|error| silent(error.to_string()))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| silent(error.to_string()))?;
        let address = self.address.clone();
        match status {
            200 => serde_json::from_slice(&body).map_err(|error| ClientError::Foreign {
                address,
                path,
                told: error.to_string(),
            }),
            401 => Err(ClientError::Unauthorized { address }),
            _ => {
                let told = serde_json::from_slice::<Fault>(&body).map(|fault| fault.error);
                let told = told.unwrap_or_else(|_| "no reason is given".to_owned());
                Err(ClientError::Refused { address, path, status, told })
            }
        }
    }
}

/// `HOST:PORT`, whatever scheme stands in front and slash behind.
fn checked(text: &str) -> Result<String, ClientError> {
    let wrong = |hint| ClientError::Address { found: text.to_owned(), hint };
    if text.starts_with("https:") {
        return Err(wrong(
            "; TLS is not spoken here: ask what stands behind it, or through a tunnel",
        ));
    }
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong(""))?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !bracketed {
        return Err(wrong("; an IPv6 address stands in brackets: [::1]:30311"));
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._:[]%".contains(letter);
    if host.is_empty() || !host.chars().all(plain) || !port.parse().is_ok_and(|port: u16| port > 0)
    {
        return Err(wrong(""));
    }
    Ok(address.to_owned())
}

fn token(path: &Path) -> Result<String, ClientError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ClientError::TokenFile { path: path.to_owned(), source })?;
    let token = text.trim();
    let is_token = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !is_token {
        return Err(ClientError::Token { path: path.to_owned() });
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// Answers one request; returns what was asked.
    fn answering(answer: &'static str) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut part = [0; 1_024];
            while !asked.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut part).unwrap();
                asked.extend_from_slice(&part[..count]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (address, server)
    }

    fn failure(address: &str) -> String {
        let client = Client::new(address, None).unwrap();
        client.ask::<u64>("now").unwrap_err().to_string()
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for good in ["127.0.0.1:30311", "http://host.example:80/", "[::1]:30311", "a-b_c.d:1"] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in
            ["", "host", "host:", "host:0", ":80", "host:99999", "a b:80", "x/y:80", "u@h:80"]
        {
            assert!(matches!(checked(bad), Err(error) if error.is_usage()), "{bad}");
        }
        let told = |text| checked(text).unwrap_err().to_string();
        assert!(told("https://host:443").contains("TLS is not spoken"));
        assert!(told("::1:30311").contains("stands in brackets"));
    }

    #[test]
    fn a_token_goes_along_and_a_file_without_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        let (address, server) =
            answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n17");
        let client = Client::new(&address, Some(&path)).unwrap();
        assert_eq!(client.ask::<u64>("now").unwrap(), 17);
        let asked = server.join().unwrap();
        assert!(asked.starts_with("GET /api/v1/now HTTP/1.1\r\n"), "{asked}");
        assert!(
            asked.to_ascii_lowercase().contains("\r\nauthorization: bearer s3cret\r\n"),
            "{asked}"
        );

        std::fs::write(&path, " \n").unwrap();
        assert!(Client::new(&address, Some(&path)).unwrap_err().is_usage());
        std::fs::write(&path, "two words\n").unwrap();
        assert!(Client::new(&address, Some(&path)).unwrap_err().is_usage());
        let error = Client::new(&address, Some(&folder.path().join("none"))).unwrap_err();
        assert!(!error.is_usage() && error.to_string().contains("cannot read the token in"));
    }

    #[test]
    fn every_failure_says_who_is_to_blame_and_what_to_do() {
        let (address, _server) =
            answering("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
        assert!(failure(&address).contains("name it by --token-file"));
        let (address, _server) = answering(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 19\r\n\r\n{\"error\":\"so busy\"}",
        );
        assert!(failure(&address).ends_with("answers 503 to /api/v1/now: so busy"));
        let (address, _server) = answering("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<ht>");
        assert!(failure(&address).contains("is not what stormdrain"));
        let (address, _server) = answering("SSH-2.0-OpenSSH_9.2\r\n");
        assert!(failure(&address).contains("does a collector run there"));
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(failure(&closed).contains("refused"), "{}", failure(&closed));
    }
}
