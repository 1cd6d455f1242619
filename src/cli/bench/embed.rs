//! `weir bench embed`

use super::super::{Outcome, output};
use super::all::{Figure, figure};
use crate::app::{LoadedEncoder, load_encoder};
use crate::config::Config;
use crate::embed::{Encoder as _, Precision};
use crate::lab::embed::{self, Agreement, BATCH_SIZE, Queue, Report, Single};
use std::error::Error;
use std::path::PathBuf;

/// Texts of every kind, so that the figures do not need a file.
const VARIED: &str = include_str!("../../../fixtures/sentences/varied.txt");

/// `weir bench embed …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The texts, one a line [default: two thousand of every kind]
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// The precisions to measure [default: embed.precision]
    #[arg(long, value_name = "auto|f32|bf16|int8", value_delimiter = ',')]
    precision: Vec<Precision>,
    /// How many texts are embedded together
    #[arg(long, default_value_t = BATCH_SIZE as u16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// How many callers ask at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    callers: u16,
    /// Leave out the comparison with f32, which takes long
    #[arg(long)]
    quick: bool,
    /// Print a line of JSON for each precision
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> Outcome {
    let text = match &args.texts {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?
        }
        None => VARIED.to_owned(),
    };
    let texts: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if texts.len() < 2 {
        return Err("it takes two texts at least".into());
    }
    let wanted =
        if args.precision.is_empty() { vec![config.encoder.precision] } else { args.precision.clone() };
    for precision in wanted {
        let report = measure(args, config, precision, &texts)?;
        if args.json {
            output::line(serde_json::to_string(&report)?);
        } else {
            output::line(page(&report));
        }
    }
    Ok(())
}

/// What a short run finds.
pub(super) fn short(config: &Config) -> Result<Vec<Figure>, Box<dyn Error>> {
    let args = Args {
        texts: None,
        precision: Vec::new(),
        batch: BATCH_SIZE as u16,
        callers: 32,
        quick: true,
        json: false,
    };
    let texts: Vec<&str> = VARIED.lines().filter(|line| !line.trim().is_empty()).collect();
    let report = measure(&args, config, config.encoder.precision, &texts)?;
    let Single { wall_p50_ms, wall_p99_ms, pieces, .. } = report.single;
    let mut figures = vec![
        figure(
            format!("one text of {pieces} word pieces"),
            format!("{wall_p50_ms:.2} ms at p50, {wall_p99_ms:.2} at p99"),
        ),
        figure("in batches, one thread", format!("{:.0} texts/s", report.batch_texts_per_second)),
    ];
    figures.extend(report.queue.map(|queue| {
        let Queue { callers, texts_per_second, wait_p50_ms, .. } = queue;
        figure(
            format!("{callers} callers at once"),
            format!("{texts_per_second:.0} texts/s; a wait of {wait_p50_ms:.1} ms at p50"),
        )
    }));
    Ok(figures)
}

fn load(config: &Config, precision: Precision) -> Result<LoadedEncoder, String> {
    let wanted = crate::config::Encoder { precision, ..config.encoder.clone() };
    load_encoder(&wanted, &config.models_dir)
}

fn measure(
    args: &Args,
    config: &Config,
    precision: Precision,
    texts: &[&str],
) -> Result<Report, Box<dyn Error>> {
    let loaded = load(config, precision)?;
    let (threads, mut encoder) = (loaded.threads(), loaded.encoder);
    let short = embed::short(&encoder, texts)?;
    let single = embed::single(&mut encoder, &short)?;
    let batch_texts_per_second = embed::batches(&mut encoder, &short, args.batch.into())?;
    let queue = if encoder.gains_from_threads() {
        Some(embed::queue(&encoder, &short, args.callers.into(), threads)?)
    } else {
        None
    };
    let agreement = if args.quick || precision == Precision::F32 {
        None
    } else {
        Some(embed::agreement(&mut encoder, &mut load(config, Precision::F32)?.encoder, texts)?)
    };
    let (id, arithmetic) = (encoder.id().to_owned(), encoder.arithmetic());
    let batch = args.batch.into();
    Ok(Report { encoder: id, arithmetic, single, batch, batch_texts_per_second, queue, agreement })
}

fn page(report: &Report) -> String {
    let Report { encoder, arithmetic, single, batch, batch_texts_per_second, queue, agreement } = report;
    let Single { pieces, texts, wall_p50_ms, wall_p99_ms, cpu_mean_ms } = single;
    let cpu = cpu_mean_ms.map_or(String::new(), |cpu| format!(", CPU {cpu:.3} ms in the mean"));
    let mut lines = vec![
        format!("{encoder} ({arithmetic})"),
        format!(
            "  one text     {wall_p50_ms:.3} ms at p50, {wall_p99_ms:.3} at p99{cpu}; {texts} texts of {pieces} word pieces, one thread"
        ),
        format!("  batches      {batch_texts_per_second:.0} texts/s on one thread, {batch} together"),
    ];
    if let Some(Queue { callers, texts_per_second, share_of_best, wait_p50_ms, wait_p99_ms, batch_ms }) =
        queue
    {
        lines.push(format!(
            "  {callers} callers   {texts_per_second:.0} texts/s, {:.0} % of the best; wait {wait_p50_ms:.2} ms at p50, {wait_p99_ms:.2} at p99 (a batch of {callers}: {batch_ms:.2} ms)",
            100.0 * share_of_best
        ));
    }
    if let Some(Agreement { texts, cosine_min, cosine_mean, same_nearest, nearest_off_by }) = agreement {
        lines.push(format!(
            "  next to f32  cosine {cosine_min:.5} at least, {cosine_mean:.5} in the mean; the same nearest text for {:.2} % of {texts}, and elsewhere one that is {nearest_off_by:.4} less near at most",
            100.0 * same_nearest
        ));
    }
    lines.join("\n")
}
