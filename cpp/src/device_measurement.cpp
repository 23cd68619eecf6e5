#include "gdcore/device_measurement.h"

#include <algorithm>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

constexpr std::int64_t kMostOutputs = std::int64_t{1} << 28;  // numbers on the device, 1 GiB

}  // namespace

StepProgram DeviceMeasurement::program(const Dataset& data, const BatchRange& range) {
  RowOrder order;
  if (range.order.rows != nullptr) {
    const std::span rows(range.order.rows, static_cast<std::size_t>(range.count));
    order.rows = rows_.put(step_.network().backend(), rows, data.x.rows);
  }
  return step_.program(data, order, range.count, {}, stack_);
}

bool DeviceMeasurement::fuses(const Dataset& data, const BatchRange& range) {
  return data.x.device != Device::cpu && range.count > 0 &&
         step_.network().backend().fuse(program(data, range)) != nullptr;
}

bool DeviceMeasurement::run(const Dataset& data, const BatchRange& range, std::span<const StepCounters> counters,
                            std::span<LossSums> sums, void* outputs) {
  const std::int64_t outputs_size = checked_size(std::ssize(sums) * range.count, step_.network().out_features());
  if (data.x.device == Device::cpu || range.count == 0) return false;
  if (outputs != nullptr && outputs_size > kMostOutputs) return false;
  Backend& backend = step_.network().backend();
  StepProgram measured = program(data, range);
  if (outputs != nullptr) {
    grow(outputs_, backend, static_cast<std::size_t>(outputs_size) * sizeof(float));
    measured.outputs = static_cast<float*>(outputs_.data());
  }
  if (!counters.empty()) {
    grow(counters_, backend, counters.size_bytes());
    backend.copy(counters_.data(), counters.data(), counters.size_bytes(), CopyKind::to_device);
    measured.stack.counters = static_cast<const StepCounters*>(counters_.data());
  }
  const auto fused = backend.fuse(measured);
  if (fused == nullptr) return false;
  poll_interrupt();
  {
    const Profiled scope(backend.profile(),
                         [&] { return Profiled::Operation{join("measurement (", range.count, " rows)"), {}}; });
    fused->run();
  }
  backend.copy(sums.data(), measured.sums, sums.size_bytes(), CopyKind::to_host);
  for (std::size_t i = 0; i < counters.size(); ++i) {
    if (counters[i].stop != Stop::none) sums[i] = {};
  }
  if (outputs != nullptr) {
    backend.copy(outputs, outputs_.data(), static_cast<std::size_t>(outputs_size) * sizeof(float), CopyKind::to_host);
  }
  return true;
}

}  // namespace gdcore
