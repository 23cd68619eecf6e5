#include "gdcore/parameters.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "gdcore/backend.h"
#include "gdcore/check.h"
#include "gdcore/parallel.h"
#include "gdcore/random.h"

namespace gdcore {

namespace {

/// The n-th value drawn by an initialiser.
double draw(const Initializer& initializer, const Entry& entry, const Philox& random, std::uint64_t n) {
  const double in = static_cast<double>(entry.fan_in), both = in + static_cast<double>(entry.fan_out);
  const auto symmetric = [&](double bound) { return (2.0 * random.uniform(n) - 1.0) * bound; };
  return std::visit(
      [&]<class Kind>(const Kind& kind) {
        if constexpr (std::is_same_v<Kind, Constant>) return kind.value;
        if constexpr (std::is_same_v<Kind, HeNormal>) return random.normal(n) * std::sqrt(2.0 / in);
        if constexpr (std::is_same_v<Kind, HeUniform>) return symmetric(std::sqrt(6.0 / in));
        if constexpr (std::is_same_v<Kind, GlorotNormal>) return random.normal(n) * std::sqrt(2.0 / both);
        if constexpr (std::is_same_v<Kind, GlorotUniform>) return symmetric(std::sqrt(6.0 / both));
        if constexpr (std::is_same_v<Kind, Uniform>) return symmetric(kind.eps);
        if constexpr (std::is_same_v<Kind, Normal>) return random.normal(n) * kind.eps;
        if constexpr (std::is_same_v<Kind, Given>) return kind.values[n];
      },
      initializer);
}

/// Draws every entry from its own random stream and copies it to the device.
void fill(Backend& backend, const Arena& arena, const Buffer& buffer, std::uint64_t seed) {
  std::vector<unsigned char> host;
  for (std::size_t number = 0; number < arena.entries().size(); ++number) {
    const Entry& entry = arena.entries()[number];
    const View to = arena.view(buffer, static_cast<int>(number));
    const Philox random{seed, stream_of(Stream::parameters, number)};
    host.resize(to.bytes());
    with_type(to.dtype, [&]<class T>(T) {
      T* values = reinterpret_cast<T*>(host.data());
      constexpr std::int64_t kPiece = 1 << 14;  // values; one takes about 50 ns
      run_tasks((to.size() + kPiece - 1) / kPiece, [&](std::int64_t t) {
        for (std::int64_t i = t * kPiece; i < std::min(to.size(), (t + 1) * kPiece); ++i) {
          values[i] = static_cast<T>(draw(entry.initializer, entry, random, static_cast<std::uint64_t>(i)));
        }
      });
    });
    backend.copy(to.data, host.data(), to.bytes(), CopyKind::to_device);
  }
}

/// Throws where a parameter of the initialiser becomes zero or infinite in the arena's dtype.
void check_initializer(const Initializer& initializer, DType dtype) {
  constexpr double kFarthest = 10.0;  // in standard deviations; no draw is further out
  if (const auto* c = std::get_if<Constant>(&initializer)) check_representable("Constant", "value", c->value, dtype);
  if (const auto* u = std::get_if<Uniform>(&initializer)) check_representable("Uniform", "eps", u->eps, dtype);
  if (const auto* n = std::get_if<Normal>(&initializer)) {
    check_representable("Normal", "eps", n->eps, dtype);
    check(std::isfinite(rounded(kFarthest * n->eps, dtype)), "[Normal] eps: got ", n->eps,
          ", whose samples may be infinite ", "in ", name_of(dtype), ", the model's dtype; expected a smaller number");
  }
}

}  // namespace

Match match(const std::string& dotted, const Entry& entry) {
  const std::size_t dot = entry.name.rfind('.');
  const std::string last = entry.name.substr(dot);
  if (dotted == "layers") return Match::all;
  Match found = Match::none;
  const auto compare = [&](const std::string& path) {
    if (dotted == path || path.starts_with(dotted + ".")) found = std::max(found, Match::layer);
    if (dotted == path + last) found = Match::entry;
  };
  compare(entry.name.substr(0, dot));
  if (entry.places.empty()) compare(join("layers.", entry.layer));
  for (const std::string& place : entry.places) compare(place);
  return found;
}

int Arena::add(Entry entry) {
  check_initializer(entry.initializer, dtype_);
  entry.offset = size_;
  const auto unit = static_cast<std::int64_t>(kAlignment / size_of(dtype_));
  size_ = checked_size(size_ + (checked_size(entry.rows, entry.cols) + unit - 1) / unit * unit, 1);
  entries_.push_back(std::move(entry));
  return static_cast<int>(entries_.size()) - 1;
}

void Arena::set_places(std::size_t first, const std::vector<std::string>& places) {
  for (std::size_t i = first; i < entries_.size(); ++i) entries_[i].places = places;
}

void Arena::freeze(int number, bool frozen) {
  entries_[static_cast<std::size_t>(number)].frozen = frozen;
  ++freezes_;
}

void Parameters::allocate(Backend& backend) {
  values = Buffer(backend, layout.bytes());
  gradients = Buffer(backend, layout.bytes());
  states = Buffer(backend, state_layout.bytes());
}

void Parameters::initialize(Backend& backend, std::uint64_t seed) {
  const NoInterrupt whole;
  fill(backend, layout, values, seed);
  fill(backend, state_layout, states, seed);
}

}  // namespace gdcore
