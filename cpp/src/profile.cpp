#include "gdcore/profile.h"

#include <utility>

#include "gdcore/backend.h"

namespace gdcore {

void Profile::add(const std::string& name, double seconds, const Cost& cost) {
  const std::lock_guard lock(mutex_);
  Row& row = rows_[name];
  ++row.calls;
  row.seconds += seconds;
  row.cost.operations += cost.operations;
  row.cost.bytes += cost.bytes;
}

Profile::Rows Profile::rows() const {
  const std::lock_guard lock(mutex_);
  return rows_;
}

void Profiled::begin(Profile& profile, Operation operation) {
  Backend& backend = profile.backend();
  StepRecorder* recorder = backend.recorder();
  if (recorder != nullptr && recorder->recording()) return;
  backend.wait();  // earlier work is not part of this operation
  running_ = std::make_unique<Running>(Running{profile, std::move(operation), {}});
  backend.enter(running_->operation.name.c_str());
  running_->start = std::chrono::steady_clock::now();
}

void Profiled::end() noexcept {
  Profile& profile = running_->profile;
  Backend& backend = profile.backend();
  try {
    backend.wait();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - running_->start;
    profile.add(running_->operation.name, seconds.count(), running_->operation.cost);
  } catch (...) {  // the device failed; the next call reports it
  }
  backend.leave();
}

}  // namespace gdcore
