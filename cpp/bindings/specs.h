// Dataclass behaviour for bound classes, and the bound classes for the core's variants.
#pragma once

#include "arrays.h"
#include "gdcore/layers.h"
#include "gdcore/loss.h"
#include "gdcore/optimizer_rules.h"

namespace gdcore::bindings {

/// The Python objects of initialisers, losses and optimisers: one base class each, one subclass per kind.
struct PyInitializer {
  Initializer value;
};
template <class Kind>
struct PyInitializerOf : PyInitializer {
  explicit PyInitializerOf(Kind kind) : PyInitializer{kind} {}
  const Kind& kind() const { return std::get<Kind>(value); }
};

struct PyLoss {
  AnyLoss value;
  bool open = false;  // class weights in `value` are incomplete until gdcore.internal.class_weights has the labels
  /// Throws ValueError where the loss is open.
  const AnyLoss& complete() const;
};
template <class Kind>
struct PyLossOf : PyLoss {
  explicit PyLossOf(Kind kind) : PyLoss{Loss(std::move(kind))} {}
  const Kind& kind() const { return std::get<Kind>(std::get<Loss>(value)); }
};

struct PyCustomLoss : PyLoss {};

struct PyOptimizer {
  py::object lr;    // a number or a function of the step
  Optimizer value;  // with a weight decay of 1 where `weight_decay` is a function of the step
  py::object weight_decay, lr_factors;
  py::object momentum = py::none();  // the function of the step that replaces the rule's momentum or β₁
};
template <class Rule>
struct PyOptimizerOf : PyOptimizer {
  const Rule& rule() const { return std::get<Rule>(value.rule); }
};

template <class Function>
struct PyActivation : ActivationLayer {
  explicit PyActivation(Function function) : ActivationLayer(function) {}
  const Function& function() const { return std::get<Function>(activation); }
};
struct PyGELU : ActivationLayer {
  using ActivationLayer::ActivationLayer;
};

using Name = std::optional<std::string>;

/// Gives a layer its name; throws ValueError where that is no identifier, or has another meaning.
void set_name(Layer& layer, const Name& name);

/// A layer with the name that it was given.
template <class Kind>
Kind named(Kind layer, const Name& name) {
  set_name(layer, name);
  return layer;
}

/// Adds `_fields`, `__repr__`, `__eq__`, `__hash__` and pickling to a class whose constructor takes `fields` by name.
void make_spec(py::object cls, const std::vector<std::string>& fields);

/// A value as shown in messages.
std::string text_of(const py::object& value);

/// Converts a mapping or a pandas Series to a dict; returns other values unchanged. Throws ValueError for duplicate
/// keys.
py::object with_keys(const py::object& given, const char* argument);

/// The copy of an argument that a spec keeps: numbers, text and None unchanged, a sequence as a tuple, a dict as a
/// read-only copy. Later changes to the caller's objects then do not change what the spec shows.
py::object immutable_copy(const py::object& given);

py::object to_python(const Initializer& initializer);

void bind_layers(py::module_& m);
void bind_column_layers(py::module_& m);
void bind_initializers(py::module_& m);
void bind_losses(py::module_& m);
void bind_custom_loss(py::module_& m);
void bind_optimizers(py::module_& m);
void bind_network(py::module_& m);
void bind_trainer(py::module_& m);
void bind_trainer_stack(py::module_& m);
void bind_curvature(py::module_& m);
void bind_data(py::module_& m);
void bind_device_array(py::module_& m);
void bind_ops(py::module_& m);
void bind_profile(py::module_& m);
void bind_threads(py::module_& m);

}  // namespace gdcore::bindings
