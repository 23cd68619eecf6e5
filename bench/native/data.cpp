// Reading the user's data: gathering and converting rows of a batch, copies, and the search for NaN and infinity.
#include <cstring>
#include <vector>

#include "gdcore/row_order.h"
#include "support.h"

namespace gdcore::bench {

namespace {

struct Kind {
  const char* name;
  SourceType from;
  std::size_t from_bytes;
  GatherType to;
  std::size_t to_bytes;
};

/// Gathers `count` of `rows` rows in random order: reads the rows, writes the batch. Successive batches read the whole
/// source, which is the working set; the batch itself may stay in a nearer cache, so shares above 100 % are possible.
void add_gather(const Kind& kind, std::int64_t rows, std::int64_t cols, std::int64_t count) {
  const double from = static_cast<double>(cols) * static_cast<double>(kind.from_bytes);
  const double to = static_cast<double>(cols) * static_cast<double>(kind.to_bytes);
  const Work work{.bytes = static_cast<double>(count) * (from + to),
                  .footprint = static_cast<double>(rows) * from + static_cast<double>(count) * to};
  add(name("gather", kind.name, shape(rows, cols), count), work, [=](const Run& run) {
    const Buffer source(cpu(), static_cast<std::size_t>(rows * cols) * kind.from_bytes);
    std::memset(source.data(), kind.from == SourceType::u8 ? 7 : 0, source.bytes());  // zero bytes are 0 in every type
    const Buffer batch(cpu(), static_cast<std::size_t>(count * cols) * kind.to_bytes);
    std::vector<std::int64_t> order(static_cast<std::size_t>(rows));
    const Permutation permutation = Permutation::of(rows, 1, 0);
    fill_order({nullptr, &permutation}, 0, rows, order.data());
    std::int64_t first = 0;
    run([&] {
      cpu().gather(
          {{source.data(), kind.from, rows, cols, cols}, order.data() + first, 0, count, batch.data(), kind.to});
      first = first + 2 * count <= rows ? first + count : 0;
    });
  });
}

/// Reads and writes n elements.
void add_copy(std::int64_t n) {
  add(name("copy", n), {.bytes = 8.0 * static_cast<double>(n)}, [=](const Run& run) {
    const Array from(1, n), to(1, n);
    run([&] { cpu().copy(to.view().data, from.view().data, to.view().bytes(), CopyKind::within); });
  });
}

/// Reads all elements.
void add_first_nonfinite(std::int64_t rows, std::int64_t cols, SourceType type) {
  const DType dtype = type == SourceType::f32 ? DType::float32 : DType::float64;
  const Work work{.bytes = static_cast<double>(rows * cols) * static_cast<double>(size_of(dtype)), .only_reads = true};
  add(name("first-nonfinite", shape(rows, cols), name_of(dtype)), work, [=](const Run& run) {
    const Array x(rows, cols, dtype);
    run([&] { benchmark::DoNotOptimize(cpu().first_nonfinite({x.view().data, type, rows, cols, cols})); });
  });
}

}  // namespace

void add_data() {
  constexpr Kind f32{"float32", SourceType::f32, 4, GatherType::float32, 4};
  constexpr Kind f64{"float64-to-float32", SourceType::f64, 8, GatherType::float32, 4};
  constexpr Kind u8{"uint8-to-float32", SourceType::u8, 1, GatherType::float32, 4};
  constexpr Kind label{"int64-labels", SourceType::i64, 8, GatherType::label, 4};
  for (const Kind& kind : {f32, f64, u8}) {
    add_gather(kind, 1000, 64, 32);
    add_gather(kind, 5000, 784, 128);
  }
  add_gather(f32, 200'000, 784, 4096);  // 627 MB: beyond the caches
  add_gather(label, 5000, 1, 128);
  for (const std::int64_t n : {1000, 100'000, 50'000'000}) add_copy(n);
  add_first_nonfinite(1000, 64, SourceType::f32);
  add_first_nonfinite(5000, 784, SourceType::f64);
  add_first_nonfinite(200'000, 784, SourceType::f32);
}

}  // namespace gdcore::bench
