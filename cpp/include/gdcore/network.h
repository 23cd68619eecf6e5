// Network: ordered layers, their parameters, and the plan: which layers run as one operation, and where everything a
// batch needs lies in one workspace. The workspace grows to the largest batch seen and serves every smaller one.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "gdcore/layer.h"

namespace gdcore {

/// A layer with the activation it absorbed, and its slices of the workspace.
struct Operation {
  Layer* layer = nullptr;
  Activation activation;
  int first = 0, last = 0;  // indices of the layers it stands for
  std::int64_t in = 0, out = 0;
  StatisticsSize statistics;
  std::size_t y_offset = 0, pre_offset = 0, statistics_offset = 0;  // bytes
};

class Network {
 public:
  Network(std::vector<std::unique_ptr<Layer>> layers, DType dtype, Device device, std::uint64_t seed,
          Precision precision = Precision::full);

  Backend& backend() const { return backend_; }
  Parameters& parameters() { return parameters_; }
  const std::vector<std::unique_ptr<Layer>>& layers() const { return layers_; }
  const std::vector<Operation>& operations() const { return operations_; }
  std::int64_t in_features() const { return in_; }
  std::int64_t out_features() const { return out_; }
  DType dtype() const { return dtype_; }
  std::uint64_t seed() const { return seed_; }
  Precision precision() const { return precision_; }
  std::string describe(const Operation& operation) const;  // "Dense + ReLU"
  /// The network as narrow steps take it, if all of its layers have a part there.
  std::optional<NarrowNetwork> narrow() const;

  void initialize(std::uint64_t seed);
  /// Freezes (or frees) the parameters whose name is `prefix` or starts with "prefix."; throws where none does.
  void set_frozen(const std::string& prefix, bool frozen);

  /// The output for x (N, in), in the workspace until the next call. In training everything backward needs is kept, and
  /// the running averages move at the end if `commit`; x must stay as it is until backward is done.
  View forward(ConstView x, bool training, bool commit);
  /// Where the gradient of the output belongs before backward: (N, out) of the last forward pass. Backward overwrites
  /// it.
  View output_gradient() const;
  /// Gradients of all parameters that are not frozen; the gradient of x into dx (N, in) unless that is null.
  void backward(View dx);
  /// Moves the running averages of the last forward pass in training.
  void commit();
  /// Rows [first, first + rows) of `x` (of index, where given), converted to the dtype: in place where they already are
  /// what is needed, else in `buffer`, which grows.
  ConstView fetch(const Source& x, const std::int64_t* index, std::int64_t first, std::int64_t rows,
                  Buffer& buffer) const;
  /// Predictions for all rows of x, batch by batch, into host memory (rows, out).
  void predict(const Source& x, std::int64_t batch_size, void* out);
  /// Whether there has been a backward pass.
  bool has_gradients() const { return has_gradients_; }
  /// Makes the workspace large enough for batches of `rows`; ends the last forward pass if it moves.
  void reserve(std::int64_t rows);
  /// Ends the last forward pass: backward needs another, and its input may go.
  void forget() { input_ = {}; }
  /// Rows of the last forward pass if backward may follow, else 0.
  std::int64_t pending_rows() const { return input_ ? input_.rows : 0; }

  std::uint64_t step = 0;                  // stream of dropout; the trainer advances it
  const StepCounters* counters = nullptr;  // while steps are recorded: where they find theirs
  /// Changes with everything that recorded steps depend on: where the workspace lies, what is frozen, the seed.
  std::uint64_t version() const { return version_; }

  /// The first parameter or operation with a value that is not finite, and the largest weight: for the message when a
  /// loss is not finite.
  std::string diagnosis() const;

  /// Guards against use from two threads at once; the second caller gets an error.
  class Use {
   public:
    explicit Use(Network& network);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Network& network_;
    bool taken_;
  };

  /// Keeps the arrays as they are for somebody who copies or writes them: `begin_hold` waits until no other thread
  /// computes, and threads that want to compute wait for `end_hold`. The thread that holds may hold again and compute.
  /// False, and nothing is held, where this thread is in the middle of a computation (a signal handler): the arrays
  /// are whole there, and nobody else can come. `aside` calls what it is given, which waits: bindings release the GIL
  /// for it, and hold it outside, so that no thread comes between `awaited` and the computation it was asked for.
  bool begin_hold(const std::function<void(const std::function<void()>&)>& aside);
  void end_hold();
  /// Whether another thread holds the arrays, or waits to: then `wait_for_holders` comes before a computation.
  bool awaited() const { return holders_ != 0 && user_ != std::this_thread::get_id(); }
  void wait_for_holders();

 private:
  void release();
  void end_waiting();
  void plan();
  LayerCall call(const Operation& operation, ConstView x, bool training) const;
  ConstView input_of(std::size_t number) const;
  View slice(std::size_t offset, std::int64_t rows, std::int64_t cols) const;

  Backend& backend_;
  DType dtype_;
  std::uint64_t seed_;
  Precision precision_;
  std::vector<std::unique_ptr<Layer>> layers_;
  Parameters parameters_;
  std::vector<Operation> operations_;
  std::int64_t in_ = 0, out_ = 0;

  Buffer workspace_, batch_;
  std::int64_t capacity_ = 0;
  std::uint64_t version_ = 0;
  std::size_t gradient_offsets_[2] = {0, 0};
  ConstView input_;          // of the last forward pass in training; null: none
  std::uint64_t drawn_ = 0;  // its stream of dropout
  bool has_gradients_ = false;
  std::atomic<bool> in_use_{false};       // by a computation or a hold,
  std::atomic<std::thread::id> user_{};   // of this thread
  std::atomic<int> holders_{0};           // threads that hold, or wait to
  std::atomic<std::int16_t> depth_{0};    // holds of the thread that does
  std::atomic<std::int16_t> waiting_{0};  // threads that want to compute; the next hold lets them come first
  std::mutex mutex_;                      // for the condition alone
  std::condition_variable released_;
};

}  // namespace gdcore
