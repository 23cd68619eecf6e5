#include "gdcore/profile.h"

#include "specs.h"

namespace gdcore::bindings {

namespace {

/// Calls work(device, profile) for every usable device.
template <class Work>
void each_profile(const Work& work) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (device == Device::cpu || cuda_missing().empty()) work(device, backend(device).profile());
  }
}

py::dict rows() {
  py::dict found;
  each_profile([&](Device device, const Profile& profile) {
    for (const auto& [name, row] : profile.rows()) {
      found[py::make_tuple(gdcore::name_of(device), name)] =
          py::make_tuple(row.calls, row.seconds, row.cost.operations, row.cost.bytes);
    }
  });
  return found;
}

}  // namespace

void bind_profile(py::module_& m) {
  m.def(
      "_profile_start", [] { each_profile([](Device, Profile& profile) { profile.start(); }); },
      "Starts the profile of all devices. It is active until _profile_stop() has been called as often.");
  m.def("_profile_stop", [] { each_profile([](Device, Profile& profile) { profile.stop(); }); });
  m.def("_profile_rows", &rows,
        "Totals since the process started: {(device, operation): (calls, seconds, operations, bytes)}.");
}

}  // namespace gdcore::bindings
