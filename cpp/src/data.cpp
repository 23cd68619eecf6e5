#include "gdcore/data.h"

#include <memory>
#include <type_traits>
#include <vector>

#include "gdcore/backend.h"
#include "gdcore/parallel.h"

namespace gdcore {

void gather_into(Backend& backend, Gather call, Buffer& buffer) {
  const std::size_t size = call.type == GatherType::float64 ? sizeof(double) : sizeof(float);  // labels are as large
  const std::size_t bytes = static_cast<std::size_t>(checked_size(call.count, call.source.cols)) * size;
  grow(buffer, backend, bytes);
  call.to = buffer.data();
  if (backend.device() == Device::cpu) return backend.gather(call);
  if (call.source.device == Device::cpu) {
    const auto host = std::make_unique_for_overwrite<unsigned char[]>(bytes);
    call.to = host.get();
    gdcore::backend(Device::cpu).gather(call);
    return backend.copy(buffer.data(), host.get(), bytes, CopyKind::to_device);
  }
  Buffer rows;
  if (!call.order.is_plain()) {
    std::vector<std::int64_t> host(static_cast<std::size_t>(call.count));
    fill_order(call.order, call.first, call.count, host.data());
    rows = Buffer(backend, host.size() * sizeof host[0]);
    backend.copy(rows.data(), host.data(), rows.bytes(), CopyKind::to_device);
    call.order = static_cast<const std::int64_t*>(rows.data());
    call.first = 0;
  }
  backend.gather(call);
}

std::int64_t first_wrong_code(const Source& source, std::span<const CodeColumn> columns) {
  std::int64_t wrong = -1;
  with_type(source.type, [&]<class S>(S) {
    const S* row = static_cast<const S*>(source.data);
    for (std::int64_t r = 0; r < source.rows && wrong < 0; ++r, row += source.row_stride) {
      if (r % 4096 == 0) poll_interrupt();
      for (std::size_t i = 0; i < columns.size(); ++i) {
        const S value = row[columns[i].column];
        bool fits = value >= S(0) && static_cast<double>(value) < static_cast<double>(columns[i].size);
        if constexpr (std::is_floating_point_v<S>) {
          fits = fits && static_cast<S>(static_cast<std::int64_t>(value)) == value;
        }
        if (!fits) {
          wrong = r * std::ssize(columns) + static_cast<std::int64_t>(i);
          break;
        }
      }
    }
  });
  return wrong;
}

ConstView fetch(Backend& backend, DType dtype, Gather call, Buffer& buffer) {
  const Source& x = call.source;
  const bool contiguous = x.row_stride == x.cols || call.count == 1;
  if (call.order.is_plain() && x.type == source_type(dtype) && contiguous && x.device == backend.device()) {
    const auto* data = static_cast<const char*>(x.data);
    return {data + static_cast<std::size_t>(call.first * x.row_stride) * size_of(dtype), call.count, x.cols, dtype};
  }
  call.type = gather_type(dtype);
  gather_into(backend, call, buffer);
  return {buffer.data(), call.count, x.cols, dtype};
}

}  // namespace gdcore
