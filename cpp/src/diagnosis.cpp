#include <cmath>

#include "gdcore/check.h"
#include "gdcore/network.h"

namespace gdcore {

namespace {

/// Names the operation of the last forward pass with the first value that is not finite.
std::string first_nonfinite_operation(const Network& network) {
  const Executor& executor = network.executor();
  const auto& operations = executor.plan().operations;
  for (std::size_t i = 0; executor.saved_rows() > 0 && i < operations.size(); ++i) {
    const View y = executor.output(i);
    if (network.backend().first_nonfinite({y.data, source_type(y.dtype), y.rows, y.cols, y.cols}) < 0) continue;
    return join("the first output that is not finite is that of ", operations[i].layer->path(operations[i].first), " (",
                operations[i].describe(), ")");
  }
  return "no layer's output is infinite or NaN, so the loss itself overflowed";
}

struct LargestWeight {
  std::string text = "there are no weights";
  double size = -1.0;  // infinity for NaN
};

LargestWeight largest_weight(const Network& network) {
  const Parameters& parameters = network.parameters();
  std::vector<char> host(parameters.layout.bytes());
  network.backend().copy(host.data(), parameters.values.data(), host.size(), CopyKind::to_host);
  LargestWeight largest;
  with_type(network.dtype(), [&]<class T>(T) {
    const T* values = reinterpret_cast<const T*>(host.data());
    for (const Entry& entry : parameters.layout.entries()) {
      for (std::int64_t i = 0; i < entry.rows * entry.cols; ++i) {
        const double value = static_cast<double>(values[entry.offset + i]);
        const double size = std::isnan(value) ? INFINITY : std::abs(value);
        if (size <= largest.size) continue;
        largest = {join(entry.name, "[", i / entry.cols, ", ", i % entry.cols, "] = ", values[entry.offset + i]), size};
      }
    }
  });
  return largest;
}

}  // namespace

std::string diagnosis(const Network& network) {
  const LargestWeight largest = largest_weight(network);
  if (std::isinf(largest.size)) {
    return join("the parameters were not finite before this step, which changed nothing: ", largest.text,
                ". Restart from finite parameters, with a smaller lr or clip_norm");
  }
  return join(first_nonfinite_operation(network), "; ", largest.size < 0.0 ? "" : "the largest weight is ",
              largest.text, ". The step changed nothing; a smaller lr, clip_norm or scaled inputs usually help");
}

}  // namespace gdcore
