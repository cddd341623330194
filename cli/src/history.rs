use std::process::ExitCode;

use anyhow::Context as _;
use hubbub_client::{Http, Page};
use hubbub_protocol::{ChannelId, Seq, http::Entry};

use crate::{
    args::HistoryArgs,
    connect::Context,
    names::Names,
    room,
    show::{self, Style, line},
};

/// `hubbub history`.
pub(crate) async fn run(context: &Context, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let channel = room::channel(&http, &args.channel).await?;
    let mut printer = Printer::new(context.style, args.json, &http);
    if args.all {
        all(&http, channel, args, &mut printer).await?;
    } else {
        let page = Page {
            before: args.before,
            after: args.after,
            around: args.around,
            limit: Some(usize::from(args.limit)),
            records: args.records,
            versions: args.versions,
            ..Page::default()
        };
        let page = read(&http, channel, page).await?;
        printer.entries(&page.messages).await?;
        if let (true, false, Some(hint)) = (page.has_more, args.json, hint(args, &page.messages)) {
            eprintln!("more: {hint}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The flag that gives the following page.
fn hint(args: &HistoryArgs, page: &[Entry]) -> Option<String> {
    if args.after.is_some() {
        Some(format!("--after {}", page.last()?.seq))
    } else {
        Some(format!("--before {}", page.first()?.seq))
    }
}

/// Every page, oldest first, so that what is printed can be read from the top.
async fn all(
    http: &Http,
    channel: ChannelId,
    args: &HistoryArgs,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let mut after = args.after.unwrap_or(Seq::ZERO);
    loop {
        let page = Page {
            after: Some(after),
            limit: Some(usize::from(args.limit)),
            records: args.records,
            versions: args.versions,
            ..Page::default()
        };
        let page = read(http, channel, page).await?;
        let wanted = |entry: &&Entry| args.before.is_none_or(|before| entry.seq < before);
        let entries: Vec<_> = page.messages.iter().filter(wanted).cloned().collect();
        printer.entries(&entries).await?;
        match page.messages.last() {
            Some(last) if page.has_more && entries.len() == page.messages.len() => {
                after = last.seq;
            }
            _ => return Ok(()),
        }
    }
}

async fn read(
    http: &Http,
    channel: ChannelId,
    page: Page,
) -> anyhow::Result<hubbub_protocol::http::MessagePage> {
    let read = http.messages(channel, page).await;
    read.with_context(|| format!("read the history of {channel}"))
}

/// Prints records of history, with a line for each day.
pub(crate) struct Printer {
    style: Style,
    json: bool,
    names: Names,
    day: String,
}

impl Printer {
    pub(crate) fn new(style: Style, json: bool, http: &Http) -> Self {
        Self {
            style,
            json,
            names: Names::new(http),
            day: String::new(),
        }
    }

    pub(crate) async fn entries(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        for entry in entries {
            if self.json {
                // The server's own frame, and what `--versions` added to it.
                line(&serde_json::to_string(entry)?)?;
                continue;
            }
            let day = show::day(show::shown_ms(&entry.body));
            if day != self.day {
                line(&self.style.dim(&format!("--- {day} (UTC)")))?;
                self.day = day;
            }
            self.names.resolve(&entry.body).await;
            let text = show::record(self.style, &entry.body, |user| self.names.get(user));
            let seq = self.style.dim(&format!("{:>8}", entry.seq.0));
            line(&format!("{seq} {text}"))?;
            for version in &entry.versions {
                let text = show::version(self.style, version);
                line(&format!("{:>8} {text}", ""))?;
            }
        }
        Ok(())
    }
}
