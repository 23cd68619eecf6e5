#include "gdcore/stack_memory.h"

#include <algorithm>

namespace gdcore {

namespace {

char* at(const Buffer& buffer, std::int64_t row, std::size_t bytes) {
  return static_cast<char*>(buffer.data()) + static_cast<std::size_t>(row) * bytes;
}

template <class T>
Buffer sent(Backend& backend, const std::vector<T>& values) {
  Buffer buffer(backend, values.size() * sizeof(T));
  backend.copy(buffer.data(), values.data(), buffer.bytes(), CopyKind::to_device);
  return buffer;
}

}  // namespace

StackMemory::StackMemory(std::span<TrainingStep* const> steps, std::int64_t at_once)
    : backend_(steps[0]->network().backend()),
      networks_(std::ssize(steps)),
      at_once_(at_once),
      parameters_(steps[0]->network().dtype()),
      kept_(steps.size(), -1) {
  const Parameters& first = steps[0]->network().parameters();
  parameters_.layout = first.layout;
  parameters_.state_layout = first.state_layout;
  const std::size_t count = steps.size(), bytes = first.layout.bytes();
  parameters_.values = Buffer(backend_, 3 * count * bytes);
  parameters_.gradients = Buffer(backend_, count * bytes);
  parameters_.states = Buffer(backend_, count * first.state_layout.bytes());
  const std::size_t states = steps[0]->optimizer().states().size();
  for (std::size_t k = 0; k < states; ++k) states_[k] = Buffer(backend_, count * bytes);
  std::vector<std::uint64_t> seeds;
  std::vector<EntryRates> entries;
  for (std::int64_t i = 0; i < networks_; ++i) {
    TrainingStep& step = *steps[static_cast<std::size_t>(i)];
    for_each_array(i, step, [&](const void* own, void* here, std::size_t size) {
      backend_.copy(here, own, size, CopyKind::within);
    });
    const Parameters& own = step.network().parameters();
    const std::size_t state_bytes = own.state_layout.bytes();
    backend_.copy(at(parameters_.states, i, state_bytes), own.states.data(), state_bytes, CopyKind::within);
    seeds.push_back(step.network().seed());
    const std::vector<EntryRates> rates = step.optimizer().entry_rates();
    entries.insert(entries.end(), rates.begin(), rates.end());
  }
  seeds_ = sent(backend_, seeds);
  entries_ = sent(backend_, entries);
  sums_ = Buffer(backend_, count * sizeof(LossSums));
  order_ = Buffer(backend_, count * sizeof(std::int64_t));
  backend_.wait();
}

template <class Visit>
void StackMemory::for_each_array(std::int64_t network, TrainingStep& step, const Visit& visit) const {
  Parameters& own = step.network().parameters();
  const std::size_t bytes = own.layout.bytes();
  visit(own.values.data(), at(parameters_.values, network, bytes), bytes);
  visit(own.gradients.data(), at(parameters_.gradients, network, bytes), bytes);
  std::size_t k = 0;
  for (const View& state : step.optimizer().states()) visit(state.data, at(states_[k++], network, bytes), bytes);
}

OptimizerPass StackMemory::pass(OptimizerPass of_first) const {
  of_first.parameters = parameters_.layout.flat(parameters_.values);
  of_first.gradients = parameters_.layout.flat(parameters_.gradients);
  for (int k = 0; states_[k].data() != nullptr; ++k) {
    of_first.states[k] = parameters_.layout.flat(states_[k]);
    if (k + 1 == kMaxStates) break;
  }
  return of_first;
}

NetworkStack StackMemory::stack() const {
  return {.networks = networks_,
          .stride = parameters_.layout.size(),
          .state_stride = parameters_.state_layout.size(),
          .seeds = static_cast<const std::uint64_t*>(seeds_.data()),
          .entries = static_cast<const EntryRates*>(entries_.data()),
          .at_once = at_once_};
}

void StackMemory::keep(std::span<const std::uint8_t> better) {
  if (std::ranges::none_of(better, [](std::uint8_t each) { return each != 0; })) return;
  std::vector<std::int64_t> order(kept_.size());
  const std::int64_t first = spare_ * networks_;
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = better[i] != 0 || kept_[i] < 0 ? static_cast<std::int64_t>(i) : kept_[i];
    if (better[i] != 0 || kept_[i] >= 0) kept_[i] = first + static_cast<std::int64_t>(i);
  }
  backend_.copy(order_.data(), order.data(), order_.bytes(), CopyKind::to_device);
  const Arena& layout = parameters_.layout;
  const Source rows{parameters_.values.data(), source_type(layout.dtype()), 3 * networks_, layout.size(), layout.size(),
                    backend_.device()};
  backend_.gather({rows, static_cast<const std::int64_t*>(order_.data()), 0, networks_,
                   at(parameters_.values, first, layout.bytes()), gather_type(layout.dtype())});
  spare_ = 3 - spare_;
}

void StackMemory::give_back(std::int64_t network, TrainingStep& step, bool kept) const {
  for_each_array(network, step, [&](void* own, const void* here, std::size_t size) {
    backend_.copy(own, here, size, CopyKind::within);
  });
  const std::int64_t row = kept_[static_cast<std::size_t>(network)];
  const std::size_t bytes = parameters_.layout.bytes();
  if (kept && row >= 0) {
    backend_.copy(step.network().parameters().values.data(), at(parameters_.values, row, bytes), bytes,
                  CopyKind::within);
  }
  backend_.wait();
}

}  // namespace gdcore
