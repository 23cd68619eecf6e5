#include "gdcore/resident.h"

#include <algorithm>
#include <cstring>

#include "gdcore/check.h"
#include "gdcore/parallel.h"

namespace gdcore {

namespace {

/// The type in which a source is stored: i32 for a `label`, else its own type or the model's, whichever is smaller.
SourceType kept_type(const Source& source, bool label, DType dtype) {
  if (label) return SourceType::i32;
  return size_of(source.type) < size_of(dtype) ? source.type : source_type(dtype);
}

std::size_t kept_bytes(const Source& source, bool label, DType dtype, std::int64_t rows) {
  return static_cast<std::size_t>(checked_size(rows, source.cols)) * size_of(kept_type(source, label, dtype));
}

/// Copies rows of a source, in its own type, next to each other.
void pack(const Source& source, const std::int64_t* order, std::int64_t first, std::int64_t rows, unsigned char* to) {
  const std::size_t size = size_of(source.type), row = static_cast<std::size_t>(source.cols) * size;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t at = order != nullptr ? order[first + i] : first + i;
    const auto offset = static_cast<std::size_t>(at * source.row_stride) * size;
    std::memcpy(to + static_cast<std::size_t>(i) * row, static_cast<const unsigned char*>(source.data) + offset, row);
  }
}

/// Copies rows into `buffer` in pieces; a null source stays null.
Source send(const Source& source, bool label, const std::int64_t* order, std::int64_t first, std::int64_t rows,
            const Network& network, Buffer& buffer) {
  if (!source) return {};
  constexpr std::int64_t kPiece = std::int64_t{1} << 24;  // bytes
  Backend& backend = network.backend();
  const SourceType type = kept_type(source, label, network.dtype());
  const auto row = static_cast<std::int64_t>(kept_bytes(source, label, network.dtype(), 1));
  grow(buffer, backend, static_cast<std::size_t>(std::max<std::int64_t>(rows * row, 1)));
  const std::int64_t step = std::clamp<std::int64_t>(kPiece / std::max<std::int64_t>(row, 1), 1, rows);
  const auto host = std::make_unique_for_overwrite<unsigned char[]>(static_cast<std::size_t>(step * row));
  for (std::int64_t done = 0; done < rows; done += step) {
    poll_interrupt();
    const std::int64_t count = std::min(step, rows - done);
    if (!label && type == source.type) {
      pack(source, order, first + done, count, host.get());
    } else {
      const GatherType to = label ? GatherType::label : gather_type(network.dtype());
      gdcore::backend(Device::cpu).gather({source, order, first + done, count, host.get(), to});
    }
    if (label) check_labels({host.get(), SourceType::i32, count, 1, 1}, network.out_features());
    auto* to = static_cast<unsigned char*>(buffer.data()) + done * row;
    backend.copy(to, host.get(), static_cast<std::size_t>(count * row), CopyKind::to_device);
  }
  return {buffer.data(), type, rows, source.cols, source.cols, backend.device()};
}

}  // namespace

void ResidentData::load(const Dataset& data, const std::int64_t* order, std::int64_t first, std::int64_t rows,
                        const Network& network) {
  data_ = {};
  data_.labels = data.labels;
  data_.weight_unit = data.weight_unit;
  data_.x = send(data.x, false, order, first, rows, network, x_);
  data_.y = send(data.y, data.labels, order, first, rows, network, y_);
  data_.weights = send(data.weights, false, order, first, rows, network, weights_);
}

std::size_t resident_row_bytes(const Dataset& data, DType dtype) {
  std::size_t bytes = kept_bytes(data.x, false, dtype, 1);
  if (data.y) bytes += kept_bytes(data.y, data.labels, dtype, 1);
  if (data.weights) bytes += kept_bytes(data.weights, false, dtype, 1);
  return bytes;
}

const Dataset& resident(const Dataset& data, const Network& network) {
  StepRecorder* recorder = network.backend().recorder();
  if (recorder == nullptr || data.x.device != Device::cpu) return data;
  if (data.on_device == nullptr) {
    const std::size_t bytes = static_cast<std::size_t>(data.x.rows) * resident_row_bytes(data, network.dtype());
    if (bytes > recorder->free_bytes() / 2) return data;  // the other half is for batches
    auto copy = std::make_shared<ResidentData>();
    copy->load(data, nullptr, 0, data.x.rows, network);
    data.on_device = std::move(copy);
  }
  return data.on_device->data();
}

}  // namespace gdcore
