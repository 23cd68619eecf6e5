#include "processes.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <stdexcept>

namespace gdcore::emulation_tests {

std::string crash_of(const std::function<void()>& work) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("no pipe");
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    std::signal(SIGSEGV, SIG_DFL);  // not doctest's
    work();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char part[4096];
  for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) text.append(part, static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status)) + "\n" + text : text;
}

int run_alone(const char* name, const char* variable, const std::string& value) {
  const pid_t child = fork();
  if (child == 0) {
    setenv(variable, value.c_str(), 1);
    const std::string filter = std::string("--test-case=") + name;
    execl("/proc/self/exe", "tests", filter.c_str(), "--no-skip", "--minimal", static_cast<char*>(nullptr));
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace gdcore::emulation_tests
