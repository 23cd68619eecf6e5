#include "gdcore/data.h"

#include <memory>
#include <vector>

#include "gdcore/backend.h"

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
