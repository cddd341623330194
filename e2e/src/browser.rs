//! Chromium without a screen, spoken to by WebDriver (W3C, 2018) through chromedriver: what a person
//! sees and does.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use hubbub_stack::{Port, Process, Spec};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// What every condition on a page is given.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a page.
const LOOK_AGAIN: Duration = Duration::from_millis(30);
/// The answer to one command; a page load is one.
const COMMAND: Duration = Duration::from_secs(60);
/// The member that names an element on the wire (WebDriver, 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Keys that are no text (WebDriver, 17.4.2).
pub const ENTER: &str = "\u{E007}";
/// As [`ENTER`].
pub const ESCAPE: &str = "\u{E00C}";
/// As [`ENTER`].
pub const UP: &str = "\u{E013}";

/// One person's browser: a process and a profile of its own, gone when it is dropped.
#[derive(Debug)]
pub struct Browser {
    name: String,
    session: String,
    http: reqwest::Client,
    /// Chromium is its child, and dies with it.
    _driver: Process,
    _profile: tempfile::TempDir,
    _port: Port,
}

impl Browser {
    /// Starts a browser whose page has this many CSS pixels.
    pub async fn start(name: &str, width: u32, height: u32) -> anyhow::Result<Self> {
        let profile = tempfile::tempdir()?;
        let port = Port::free()?;
        let driver = Process::new(Spec {
            name: format!("browser {name}"),
            argv: vec![
                "chromedriver".to_owned(),
                format!("--port={}", port.number()),
            ],
            env: vec![("LANG".to_owned(), "C.UTF-8".to_owned())],
            log: profile.path().join("chromedriver.log"),
            run_as: None,
            stop_signal: Signal::SIGTERM,
            stop_grace: Duration::from_secs(5),
        });
        driver.spawn().await?;
        let http = reqwest::Client::builder()
            .timeout(COMMAND)
            .no_proxy()
            .build()?;
        let base = format!("http://{}", port.addr());
        let begun = Instant::now();
        while http.get(format!("{base}/status")).send().await.is_err() {
            ensure!(
                begun.elapsed() < PATIENCE && driver.is_running(),
                "chromedriver does not answer: is the package chromium-driver installed?\n{}",
                driver.log_since_start()
            );
            sleep(LOOK_AGAIN).await;
        }
        let made = command(&http, &base, "session", &capabilities(profile.path())).await;
        let made = made.with_context(|| driver.log_since_start())?;
        let id = made["sessionId"].as_str().context("a session has an id")?;
        let browser = Self {
            name: name.to_owned(),
            session: format!("{base}/session/{id}"),
            http,
            _driver: driver,
            _profile: profile,
            _port: port,
        };
        browser.resize(width, height).await?;
        Ok(browser)
    }

    /// Gives the page another size, in CSS pixels.
    pub async fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let params =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", params)
            .await
    }

    /// Makes the page dark or light.
    pub async fn colours(&self, scheme: &str) -> anyhow::Result<()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )
        .await
    }

    async fn devtools(&self, cmd: &str, params: Value) -> anyhow::Result<()> {
        let body = json!({ "cmd": cmd, "params": params });
        self.command("goog/cdp/execute", &body).await.map(drop)
    }

    /// Opens an address, and waits until it is loaded.
    pub async fn open(&self, url: &str) -> anyhow::Result<()> {
        self.command("url", &json!({ "url": url })).await.map(drop)
    }

    /// The value of a JavaScript expression on the page.
    pub async fn eval(&self, expression: &str) -> anyhow::Result<Value> {
        let script = format!("return ({expression});");
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
            .await
    }

    /// Waits until the expression is true, and gives its value; at most 30 s.
    pub async fn wait(&self, expression: &str) -> anyhow::Result<Value> {
        let begun = Instant::now();
        loop {
            let value = self.eval(expression).await?;
            let holds = match &value {
                Value::Bool(holds) => *holds,
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                Value::Number(number) => number.as_f64() != Some(0.0),
                _ => true,
            };
            if holds {
                return Ok(value);
            }
            if begun.elapsed() > PATIENCE {
                let text = self.eval("document.body.innerText").await?;
                let console = self.console().await?;
                bail!(
                    "{}: not within {PATIENCE:?}: {expression}\npage: {}\nconsole: {console:?}",
                    self.name,
                    text.as_str().unwrap_or_default()
                );
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits for an element that can be seen.
    pub async fn see(&self, css: &str) -> anyhow::Result<()> {
        self.wait(&visible(css)).await.map(drop)
    }

    /// Waits until no such element can be seen.
    pub async fn see_none(&self, css: &str) -> anyhow::Result<()> {
        self.wait(&format!("!{}", visible(css))).await.map(drop)
    }

    /// Waits until the text of an element contains this.
    pub async fn read(&self, css: &str, text: &str) -> anyhow::Result<()> {
        let (css, text) = (json!(css), json!(text));
        self.wait(&format!(
            "[...document.querySelectorAll({css})].some((one) => one.innerText.includes({text}))"
        ))
        .await
        .map(drop)
    }

    /// Clicks the first such element, as soon as it can be seen. One that a new drawing replaces at
    /// that moment is looked up again.
    pub async fn click(&self, css: &str) -> anyhow::Result<()> {
        self.on_element(css, "click", json!({})).await
    }

    /// Types into the first such element; [`ENTER`] and its like are keys.
    pub async fn keys(&self, css: &str, text: &str) -> anyhow::Result<()> {
        self.on_element(css, "value", json!({ "text": text })).await
    }

    /// Moves the pointer over the first such element.
    pub async fn hover(&self, css: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let origin = json!({ ELEMENT: self.element(css).await? });
            let step =
                json!({ "type": "pointerMove", "origin": origin, "x": 0, "y": 0, "duration": 0 });
            let pointer = json!({ "type": "pointer", "id": "mouse", "actions": [step] });
            match self
                .command("actions", &json!({ "actions": [pointer] }))
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn on_element(&self, css: &str, what: &str, body: Value) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let element = self.element(css).await?;
            let path = format!("element/{element}/{what}");
            match self.command(&path, &body).await {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > PATIENCE => {
                    return Err(error).context(format!("{}: {what} {css}", self.name));
                }
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn element(&self, css: &str) -> anyhow::Result<String> {
        self.see(css).await?;
        let body = json!({ "script": format!("return {};", first(css)), "args": [] });
        let found = self.command("execute/sync", &body).await?;
        let element = found[ELEMENT].as_str();
        Ok(element
            .with_context(|| format!("no element {css}"))?
            .to_owned())
    }

    /// What the console says since the last look: errors and warnings, a refused script among them.
    /// That a look at who is here came to nothing on a busy machine is no error of the page, which
    /// looks again.
    pub async fn console(&self) -> anyhow::Result<Vec<String>> {
        let log = self
            .command("se/log", &json!({ "type": "browser" }))
            .await?;
        let lines = log.as_array().cloned().unwrap_or_default();
        Ok(lines
            .iter()
            .filter(|line| line["level"] == "SEVERE" || line["level"] == "WARNING")
            .map(|line| line["message"].to_string())
            .filter(|message| !is_late_look(message))
            .collect())
    }

    /// The page as a PNG.
    pub async fn screenshot(&self) -> anyhow::Result<Vec<u8>> {
        use base64::Engine as _;
        let url = format!("{}/screenshot", self.session);
        let answer: Value = self.http.get(url).send().await?.json().await?;
        let text = answer["value"].as_str().context("a screenshot is text")?;
        Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
    }

    async fn command(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        command(&self.http, &self.session, path, body)
            .await
            .with_context(|| format!("{}: {path}", self.name))
    }
}

/// The first such element that can be seen.
fn first(css: &str) -> String {
    let css = json!(css);
    format!(
        "[...document.querySelectorAll({css})].find((one) => one.checkVisibility({{ visibilityProperty: true }}) && one.getClientRects().length > 0)"
    )
}

fn visible(css: &str) -> String {
    format!("({} !== undefined)", first(css))
}

/// The bus did not take the question within the quarter of a second that it has.
fn is_late_look(message: &str) -> bool {
    let mut words = message.split_whitespace();
    let url = words.next().unwrap_or_default();
    let channel = url
        .strip_suffix("/users")
        .and_then(|url| url.rsplit_once("/channels/"));
    channel.is_some_and(|(_, id)| !id.contains('/')) && message.contains("status of 503")
}

fn capabilities(profile: &Path) -> Value {
    let mut args = vec![
        "--headless=new".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-quic".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        "--lang=en-GB".to_owned(),
        format!("--user-data-dir={}", profile.join("profile").display()),
    ];
    if nix::unistd::getuid().is_root() {
        // Chromium's sandbox refuses root.
        args.push("--no-sandbox".to_owned());
    }
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:chromeOptions": { "args": args },
        "goog:loggingPrefs": { "browser": "ALL" },
    } } })
}

async fn command(
    http: &reqwest::Client,
    base: &str,
    path: &str,
    body: &Value,
) -> anyhow::Result<Value> {
    let response = http
        .post(format!("{base}/{path}"))
        .json(body)
        .send()
        .await?;
    let status = response.status();
    let mut answer: Value = response.json().await?;
    let value = answer["value"].take();
    if status.is_success() {
        return Ok(value);
    }
    bail!(
        "{status} {}: {}",
        value["error"].as_str().unwrap_or_default(),
        value["message"].as_str().unwrap_or_default()
    );
}
