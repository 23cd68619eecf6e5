// Flat arenas: all weights in one buffer, all gradients in another of the same layout. The optimiser, norms, copies of
// the best weights and checkpoints are then one pass each. A layer holds the indices of its entries.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gdcore/initializers.h"
#include "gdcore/memory.h"

namespace gdcore {

/// Valid values of an array. Training produces no others, and results computed from others are meaningless.
enum class Range { any, not_negative, positive };

/// One named array of an arena.
struct Entry {
  std::string name;  // "layers.0.weight", or "head.weight" of a layer with a name
  int layer = 0;
  std::int64_t rows = 0, cols = 0, offset = 0;  // offset in elements
  bool is_vector = false;                       // a bias or a norm's parameter: one row, shown as one dimension
  bool is_weight = false;                       // weight decay applies by default
  bool frozen = false;
  Initializer initializer{};
  std::int64_t fan_in = 1, fan_out = 1;
  Range range = Range::any;
  std::vector<std::string> places = {};  // what its layer is called by its number, or by that of its block
};

/// How a dotted name selects an entry: not at all, as one of all ("layers"), as one of its layer ("layers.3", or
/// "head" where that is the layer's name), or alone ("layers.3.bias", "head.bias"). A layer with a name is selected by
/// its number as well, and a layer of a block ("layers.3.0") by the name or number of the block.
enum class Match { none, all, layer, entry };
Match match(const std::string& dotted, const Entry& entry);

/// The layout of one buffer: entries in the order in which layers declare them, each aligned.
class Arena {
 public:
  explicit Arena(DType dtype) : dtype_(dtype) {}

  int add(Entry entry);  // returns its index
  std::int64_t size() const { return size_; }
  DType dtype() const { return dtype_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * size_of(dtype_); }
  void freeze(int number, bool frozen);
  /// Sets the places of the entries from number `first` on.
  void set_places(std::size_t first, const std::vector<std::string>& places);
  /// Counts calls of freeze(): data derived from the entries at another count is out of date.
  std::uint64_t freezes() const { return freezes_; }
  const std::vector<Entry>& entries() const { return entries_; }

  std::int64_t offset(int number) const { return entries_[static_cast<std::size_t>(number)].offset; }
  /// The entry's view of a buffer with this layout.
  View view(const Buffer& buffer, int number) const {
    const Entry& entry = entries_[static_cast<std::size_t>(number)];
    char* data = static_cast<char*>(buffer.data()) + static_cast<std::size_t>(entry.offset) * size_of(dtype_);
    return {data, entry.rows, entry.cols, dtype_};
  }
  View flat(const Buffer& buffer) const { return {buffer.data(), 1, size_, dtype_}; }

 private:
  DType dtype_;
  std::int64_t size_ = 0;
  std::uint64_t freezes_ = 0;
  std::vector<Entry> entries_;
};

struct Parameters {
  explicit Parameters(DType dtype) : layout(dtype), state_layout(dtype) {}

  Arena layout;  // trained: weights, biases, γ, β
  Buffer values, gradients;
  Arena state_layout;  // not trained: running averages, data scaling
  Buffer states;

  void allocate(Backend& backend);
  View value(int number) const { return layout.view(values, number); }
  View gradient(int number) const { return layout.view(gradients, number); }
  View state(int number) const { return state_layout.view(states, number); }
  bool frozen(int number) const { return layout.entries()[static_cast<std::size_t>(number)].frozen; }

  /// Draws all values (entry n from random stream n) and sets the states to their initial values.
  void initialize(Backend& backend, std::uint64_t seed);
};

}  // namespace gdcore
