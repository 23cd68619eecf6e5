// Initial values (chapter, slides 18-20). M is the fan-in, M' the fan-out.
#pragma once

#include <variant>
#include <vector>

namespace gdcore {

struct HeNormal {};       // N(0, 2/M)
struct HeUniform {};      // uniform on ±√(6/M)
struct GlorotNormal {};   // N(0, 2/(M+M'))
struct GlorotUniform {};  // uniform on ±√(6/(M+M'))
struct Uniform {          // uniform on [-ε, ε]
  double eps = 0.0;
};
struct Normal {  // N(0, ε²)
  double eps = 0.0;
};
struct Constant {
  double value = 0.0;
};

struct Given {  // one value per element: data scaling
  std::vector<double> values;
};

using Initializer = std::variant<Constant, HeNormal, HeUniform, GlorotNormal, GlorotUniform, Uniform, Normal, Given>;

}  // namespace gdcore
