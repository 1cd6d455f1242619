//! Where a model runs: a GPU when there is one that works, else the CPU, and always said aloud.

use candle_core::{DType, Device, Tensor};
use std::fmt;
use std::str::FromStr;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The GPU when it works, else the CPU.
    #[default]
    Auto,
    /// The CPU, whatever else there is.
    Cpu,
    /// The GPU. Where it does not work the CPU takes over, with a description that says why: a slow
    /// answer is better than none.
    Cuda,
}

/// The name of a device that is not one of `auto`, `cpu` and `cuda`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a device: use `auto`, `cpu` or `cuda`")]
pub struct UnknownDevice(String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            other => Err(UnknownDevice(other.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// The device for `choice`, and a description of it for the banner and the log. Never fails: the CPU is
/// always there.
pub fn pick(choice: DeviceChoice) -> (Device, String) {
    match choice {
        DeviceChoice::Cpu => (Device::Cpu, "cpu".to_owned()),
        DeviceChoice::Auto if !cfg!(feature = "cuda") => (Device::Cpu, "cpu".to_owned()),
        DeviceChoice::Auto | DeviceChoice::Cuda => match working_gpu() {
            Ok(device) => (device, "cuda:0".to_owned()),
            Err(reason) => (Device::Cpu, format!("cpu (cuda is not usable: {reason})")),
        },
    }
}

/// A GPU that has multiplied two matrices: a driver that is too old opens the device and fails only there.
fn working_gpu() -> Result<Device, String> {
    if !cfg!(feature = "cuda") {
        return Err("this binary was built without it".to_owned());
    }
    let probe = || -> candle_core::Result<Device> {
        let device = Device::new_cuda(0)?;
        let ones = Tensor::ones((8, 8), DType::F32, &device)?;
        ones.matmul(&ones)?.sum_all()?.to_scalar::<f32>()?;
        Ok(device)
    };
    probe().map_err(|error| first_line(&error.to_string()))
}

/// candle's errors may carry a backtrace; the first line is the message.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_reads_what_it_writes() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let error = "gpu".parse::<DeviceChoice>().unwrap_err();
        assert_eq!(error.to_string(), "`gpu` is not a device: use `auto`, `cpu` or `cuda`");
    }

    #[test]
    fn the_cpu_is_taken_when_asked_for() {
        let (device, description) = pick(DeviceChoice::Cpu);
        assert!(device.is_cpu());
        assert_eq!(description, "cpu");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_gpu_that_cannot_be_had_is_said_aloud() {
        let (device, description) = pick(DeviceChoice::Cuda);
        assert!(device.is_cpu());
        assert_eq!(description, "cpu (cuda is not usable: this binary was built without it)");
        assert_eq!(pick(DeviceChoice::Auto).1, "cpu");
    }
}
