// The fused MLP step: a whole training step of a small multilayer perceptron in two launches (up to kMostLayers dense
// layers of widths up to kMostWidth, each with optional dropout, optionally with standardised inputs). With separate
// kernels per operation, launches and passes over memory take most of the time of such a step, not arithmetic.
//   fused_mlp_gradient_kernel: a block processes tiles of rows: gathers the rows, computes y_l = f(y_{l-1} Wᵀ + b) for
//     all layers with the activations in shared memory, the loss, and the backward pass. It writes its partial sums of
//     every dW and db, and of the loss. A block's tiles, and so the order of additions, depend on the batch, the
//     network and the shared memory of the device.
//   fused_mlp_update_kernel: adds these in the order of the blocks, updates the weights (optimizer_rules.h) and
//     advances the counters.
// Gradients overwrite the activations: g_{l-1} = (g_l W) f'(y_{l-1}) m / (1 - p), with dropout's mask m, replaces
// y_{l-1}. If the total weight is not the number of rows, the partial gradients are those of Σ s l; the second kernel
// divides them by Σ s W.
//
// Counters without a third launch: no kernel writes memory that its other blocks read. The first kernel copies the
// counters; the second reads the copy and advances the counters. If the loss is not finite, which every block of the
// second kernel finds for itself, it sets `stop` instead: from then on the blocks of both kernels return at once.
//
// A stack of networks (NetworkStack) is one more dimension of both grids. A network's tiles and sums do not depend on
// it, so its results have the bits of the network alone. The networks are divided among launches whose partial
// gradients fit into the L2 cache.
//
// A measurement is the first kernel up to the loss, with outputs on request, and a kernel that adds the blocks' sums.
//
// Bytes: rows and targets once; each block reads the weights and writes a partial gradient (4 bytes per parameter each,
// from and to the L2 cache); the update reads these, weights and states, and writes weights, states and gradients.
#include <algorithm>
#include <optional>
#include <variant>

#include "backend/cuda_backend.h"
#include "backend/stream.h"
#include "fused_mlp/update.h"

namespace gdcore::cuda {

namespace {

constexpr int kThreads = kFusedThreads;
constexpr std::int64_t kPartialBytes = std::int64_t{32} << 20;  // of a launch's partial gradients
constexpr std::int64_t kMostNetworks = 65'535;                  // of a launch: the largest grid

template <class Numbers>
__global__ void __launch_bounds__(kThreads, 1) fused_mlp_gradient_kernel(const __grid_constant__ GradientPass p) {
  GD_DYN_SHARED(float, shared);
  GD_SHARED(KeptShare, kept, kMostLayers);
  const std::int64_t network = p.first_network + blockIdx.y;
  const StepCounters at = p.counters != nullptr ? p.counters[network] : StepCounters{};
  if (p.trains && blockIdx.x == 0 && threadIdx.x == 0) p.seen[blockIdx.y] = at;
  if (at.stop != Stop::none) return;
  const int thread = static_cast<int>(threadIdx.x);
  if (p.schedule != nullptr && thread < p.layers) {
    kept[thread] = KeptShare::of(p.layer[thread].dropout.p * p.schedule[network * p.rates + at.batch].dropout);
  }
  const Member member(p, network, at, kept);
  for (int i = thread; i < p.first_matrix; i += kThreads) shared[i] = 0.0f;
  for (int l = 0; p.resident && l < p.layers; ++l) load_weights<Numbers>(p.layer[l], member, shared);
  __syncthreads();
  LossSums sums;
  for (std::int64_t i = blockIdx.x; i < p.tiles; i += gridDim.x) {
    const std::int64_t begin = i * p.tile_rows, left = p.rows - begin;
    const RowTile tile{begin, static_cast<int>(left < p.tile_rows ? left : p.tile_rows)};
    sums.add(tile_step<Numbers>(p, tile, member, i == blockIdx.x, shared));
  }
  sums.loss = block_sum(sums.loss);
  sums.weight = block_sum(sums.weight);
  if (threadIdx.x == 0) p.sums[std::int64_t{blockIdx.y} * gridDim.x + blockIdx.x] = sums;
}

/// Adds the sums of each network's blocks; a thread has a network.
__global__ void __launch_bounds__(kThreads)
    fused_mlp_sums_kernel(const LossSums* of_blocks, int blocks, std::int64_t first, std::int64_t networks,
                          const StepCounters* counters, LossSums* sums) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= networks || (counters != nullptr && counters[first + i].stop != Stop::none)) return;
  LossSums total;
  for (int block = 0; block < blocks; ++block) total.add(of_blocks[i * blocks + block]);
  sums[first + i] = total;
}

// ---- Host code. ----

void (*gradient_kernel(Precision precision))(GradientPass) {
  if (!on_tensor_cores(precision)) return fused_mlp_gradient_kernel<Float32>;
  return precision == Precision::tf32 ? fused_mlp_gradient_kernel<Tf32> : fused_mlp_gradient_kernel<Bfloat16>;
}

/// The launches of the first kernel: run() adds the scratch memory and divides the networks among launches.
class FusedPass : public FusedStep {
 public:
  FusedPass(const StepProgram& step, const GradientPass& gradient, std::size_t shared)
      : gradient_(gradient),
        blocks_(static_cast<unsigned>(std::min(gradient.tiles, kMostBlocks))),
        networks_(step.stack.networks),
        shared_(shared),
        kernel_(gradient_kernel(step.precision)) {
    const std::int64_t bytes = gradient.partial_size * std::int64_t{blocks_} * std::int64_t{sizeof(float)};
    const std::int64_t most = std::clamp<std::int64_t>(kPartialBytes / bytes, 1, kMostNetworks);
    at_once_ = std::min(networks_, step.stack.at_once > 0 ? step.stack.at_once : most);
    at_once_ = ceil_div(networks_, ceil_div(networks_, at_once_));  // launches of equal size
    check_cuda(
        cudaFuncSetAttribute(kernel_, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(most_shared())),
        "cudaFuncSetAttribute");
  }

  void run() override {
    const auto most = static_cast<std::size_t>(at_once_);
    const std::size_t counters = round_up(most * sizeof(StepCounters), 16), sums = most * blocks_ * sizeof(LossSums);
    const std::size_t partials =
        gradient_.trains ? most * blocks_ * static_cast<std::size_t>(gradient_.partial_size) * sizeof(float) : 0;
    auto* memory = static_cast<char*>(scratch(Scratch::partial, counters + sums + partials));
    gradient_.seen = reinterpret_cast<StepCounters*>(memory);
    gradient_.sums = reinterpret_cast<LossSums*>(memory + counters);
    gradient_.partials = reinterpret_cast<float*>(memory + counters + sums);
    for (std::int64_t first = 0; first < networks_; first += at_once_) {
      gradient_.first_network = first;
      const auto count = static_cast<unsigned>(std::min(at_once_, networks_ - first));
      launch(kernel_, {dim3(blocks_, count), kThreads, shared_}, gradient_);
      finish(gradient_, blocks_, count);
    }
  }

 protected:
  /// Launches the kernel that reads the results of the first.
  virtual void finish(const GradientPass& gradient, unsigned blocks, unsigned networks) = 0;
  std::int64_t at_once() const { return at_once_; }

 private:
  GradientPass gradient_;
  unsigned blocks_;
  std::int64_t networks_, at_once_ = 1;
  std::size_t shared_;
  void (*kernel_)(GradientPass);
};

class FusedMeasurement final : public FusedPass {
 public:
  FusedMeasurement(const StepProgram& step, const GradientPass& gradient, std::size_t shared)
      : FusedPass(step, gradient, shared), sums_(step.sums) {}

 private:
  void finish(const GradientPass& gradient, unsigned blocks, unsigned networks) override {
    launch(fused_mlp_sums_kernel, {static_cast<unsigned>(ceil_div(networks, kThreads)), kThreads}, gradient.sums,
           static_cast<int>(blocks), gradient.first_network, std::int64_t{networks}, gradient.counters, sums_);
  }
  LossSums* sums_;
};

template <class Rule>
class FusedTraining final : public FusedPass {
 public:
  FusedTraining(const StepProgram& step, const GradientPass& gradient, std::size_t shared, const Update<Rule>& update)
      : FusedPass(step, gradient, shared), update_(update) {
    // As many threads per weight as a network alone needs, or one where the stack has work for all multiprocessors.
    const std::int64_t blocks = at_once() * ceil_div(update_.partial_size, kThreads);
    update_.slices = blocks < multiprocessors() ? kSlices : 1;
  }

 private:
  void finish(const GradientPass& gradient, unsigned blocks, unsigned networks) override {
    update_.seen = gradient.seen;
    update_.block_sums = gradient.sums;
    update_.partials = gradient.partials;
    update_.first_network = gradient.first_network;
    update_.blocks = static_cast<int>(blocks);
    const auto across = static_cast<unsigned>(ceil_div(update_.partial_size, kThreads / update_.slices));
    launch(fused_mlp_update_kernel<Rule>, {dim3(across, networks), kThreads}, update_);
  }
  Update<Rule> update_;
};

template <class Rule>
std::unique_ptr<FusedStep> fuse_with(const StepProgram& step, const std::vector<DenseLayer>& layers, const Rule& rule,
                                     const GradientPass& gradient, std::size_t shared) {
  const OptimizerPass& pass = *step.optimizer;
  Update<Rule> update{};
  if (!find_tensors(step, layers, gradient, update)) return nullptr;
  update.array[0] = pass.parameters.as<float>();
  update.array[1] = const_cast<float*>(pass.gradients.as<float>());
  for (int k = 0; k < Rule::states; ++k) update.array[2 + k] = pass.states[k].as<float>();
  update.rule = rule;
  update.clip = static_cast<float>(pass.clip_value);
  update.decoupled = decouples_decay(pass.rule);
  update.counters = pass.counters;
  update.schedule = pass.schedule;
  update.average = pass.average.as<float>();
  update.sums = step.sums;
  update.stack = step.stack;
  update.partial_size = gradient.partial_size;
  update.rows = step.rows;
  update.divides = gradient.loss.weighing != Weighing::rows;
  return std::make_unique<FusedTraining<Rule>>(step, gradient, shared, update);
}

}  // namespace

std::unique_ptr<FusedStep> CudaBackend::fuse(const StepProgram& step) {
  const std::optional<MultilayerPerceptron> network = perceptron_of(step);
  if (!network || !fits(step, network->layers)) return nullptr;
  GradientPass p{};
  p.trains = step.optimizer.has_value();
  const std::size_t shared = plan(step, network->layers, p);
  if (shared == 0) return nullptr;
  p.x = step.x;
  p.y = step.y;
  p.row_weights = step.weights;
  p.mean = network->mean;
  p.std = network->std;
  p.labels = step.labels;
  p.order = step.order;
  p.rows = step.rows;
  p.counters = p.trains ? step.optimizer->counters : step.stack.counters;
  p.schedule = p.trains ? step.optimizer->schedule : nullptr;
  p.rates = step.stack.rates;
  p.outputs = p.trains ? nullptr : step.outputs;
  p.stride = step.stack.stride;
  p.state_stride = step.stack.state_stride;
  p.seeds = step.stack.seeds;
  const LossPass loss{.loss = step.loss,
                      .logits = {nullptr, step.rows, step.plan.out, DType::float32},
                      .targets = {},
                      .labels = nullptr,
                      .weights = {},
                      .class_weights = step.class_weights,
                      .grad = p.trains ? step.optimizer->parameters : View{},  // a request; not written there
                      .sums = step.sums};
  p.loss = losses_of<float>(loss);
  p.loss.weighing = weighing_of(step.loss, step.labels, static_cast<bool>(step.weights), bool(step.class_weights));
  if (!p.trains) return std::make_unique<FusedMeasurement>(step, p, shared);
  return std::visit([&](const auto& rule) { return fuse_with(step, network->layers, rule, p, shared); },
                    step.optimizer->rule);
}

}  // namespace gdcore::cuda
