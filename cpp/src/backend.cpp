// The backend table, the choice of instruction set, and the memory that buffers own.
#include "gdcore/backend.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "gdcore/check.h"
#include "gdcore/parallel.h"
#include "gdcore/scratch.h"

namespace gdcore {

namespace baseline {
Backend* make_backend();
}
#ifdef GDCORE_HAS_X86_ISAS
namespace avx2 {
Backend* make_backend();
}
namespace avx512 {
Backend* make_backend();
}
#endif

namespace {

struct InstructionSet {
  std::string_view name;
  bool available;
  Backend* (*make)();
};

/// All of this build, the best first.
std::vector<InstructionSet> all_instruction_sets() {
  return {
#ifdef GDCORE_HAS_X86_ISAS
      {"avx512",
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"),
       avx512::make_backend},
      {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"),
       avx2::make_backend},
#endif
      {"baseline", true, baseline::make_backend},
  };
}

/// The best instruction set of this processor, or the one that the environment variable GDCORE_CPU_ISA names.
std::unique_ptr<Backend> make_cpu_backend() {
  const char* wanted = std::getenv("GDCORE_CPU_ISA");
  for (const InstructionSet& set : all_instruction_sets()) {
    const bool named = wanted != nullptr && set.name == wanted;
    check<DeviceError>(!named || set.available, "[backend] GDCORE_CPU_ISA=", set.name,
                       " asks for instructions that this processor lacks; unset it to get the best there are");
    if (named || (wanted == nullptr && set.available)) return std::unique_ptr<Backend>(set.make());
  }
  throw DeviceError(join("[backend] GDCORE_CPU_ISA=", wanted, " is not known; choose avx512, avx2 or baseline"));
}

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : all_instruction_sets()) {
    if (set.available) names.emplace_back(set.name);
  }
  return names;
}

Backend& backend(Device device) {
  if (device == Device::cuda) return cuda_backend();
  // Never destroyed: daemon threads may still compute while the process ends.
  static Backend* const cpu = make_cpu_backend().release();
  return *cpu;
}

std::int64_t checked_size(std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kMost = std::int64_t{1} << 44;
  check(rows >= 0 && cols >= 0 && (cols == 0 || rows <= kMost / cols), "[gdcore] ", rows, " x ", cols,
        " numbers are more than any machine holds");
  return rows * cols;
}

Buffer::Buffer(Backend& backend, std::size_t bytes)
    : backend_(&backend), data_(backend.allocate(bytes)), bytes_(bytes) {}

Buffer::Buffer(Buffer&& other) noexcept
    : backend_(other.backend_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(backend_, other.backend_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr) backend_->deallocate(data_, bytes_);
}

void grow(Buffer& buffer, Backend& backend, std::size_t bytes) {
  if (buffer.bytes() >= bytes && buffer.data() != nullptr) return;
  buffer = Buffer();  // its memory may be what the larger one needs
  buffer = Buffer(backend, bytes);
}

void gather_into(Backend& backend, Gather call, std::size_t bytes, Buffer& buffer) {
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

namespace {

struct ThreadScratch {
  void* data[static_cast<int>(Scratch::count)] = {};
  std::size_t bytes[static_cast<int>(Scratch::count)] = {};
  ~ThreadScratch() {
    for (void* memory : data) std::free(memory);
  }
};

}  // namespace

void* scratch(Scratch use, std::size_t bytes) {
  thread_local ThreadScratch outer, inner;
  ThreadScratch& mine = inside_interrupt() ? inner : outer;
  const int slot = static_cast<int>(use);
  if (mine.bytes[slot] < bytes) {
    const std::size_t whole = round_up(bytes, kAlignment);
    void* larger = std::aligned_alloc(kAlignment, whole);
    if (larger == nullptr) throw std::bad_alloc();
    std::free(mine.data[slot]);
    mine.data[slot] = larger;
    mine.bytes[slot] = whole;
  }
  return mine.data[slot];
}

}  // namespace gdcore
