// gradtap params
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/module_tree.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

struct ParamsOptions {
  std::string run;
  std::string match;
  bool tree = false;
  std::vector<std::string> kinds;
  std::string attempt;
  std::uint32_t rank = 0;
};

absl::StatusOr<v1::ListParametersRequest> ToRequest(
    const ParamsOptions& options) {
  v1::ListParametersRequest request;
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  request.set_run(options.run);
  request.set_match(options.match);
  request.set_rank(options.rank);
  for (const std::string& word : SplitList(options.kinds)) {
    const auto kind = ParseKind(word);
    if (!kind.ok()) return kind.status();
    request.add_kinds(*kind);
  }
  if (!options.attempt.empty()) {
    const auto attempt = ParseAttempt(options.attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_attempt(*attempt);
  }
  return request;
}

std::string Shape(const v1::Parameter& parameter) {
  return ShapeText({parameter.shape().begin(), parameter.shape().end()});
}

std::string Totals(const v1::ListParametersResponse& answer) {
  return absl::StrCat(Plural(answer.parameter_count(), "parameter"), ": ",
                      Plural(answer.parameter_numel(), "element"), " (",
                      HumanCount(answer.trainable_numel()), " trainable), ",
                      HumanBytes(answer.parameter_bytes()), "; ",
                      Plural(answer.buffer_count(), "buffer"), ": ",
                      Plural(answer.buffer_numel(), "element"), ", ",
                      HumanBytes(answer.buffer_bytes()), ".\n");
}

absl::Status WriteTable(const v1::ListParametersResponse& answer,
                        Context& context) {
  if (answer.parameters().empty()) {
    return context.Write("No parameter is like that.\n");
  }
  Table table({{"NAME", Align::kLeft, true},
               {"KIND"},
               {"SHAPE"},
               {"DTYPE"},
               {"DEVICE"},
               {"GRAD"},
               {"ELEMENTS", Align::kRight},
               {"BYTES", Align::kRight},
               {"MODULE"},
               {"TIED WITH", Align::kLeft, true},
               {"PLACEMENT"},
               {"NOTE", Align::kLeft, true}});
  const bool sharded = std::any_of(
      answer.parameters().begin(), answer.parameters().end(),
      [](const auto& p) { return p.placement() == v1::PLACEMENT_SHARDED; });
  for (const v1::Parameter& p : answer.parameters()) {
    const std::string note =
        p.unsupported_reason().empty()
            ? (p.layout().empty() || p.layout() == "strided" ? "" : p.layout())
            : "not recorded: " + p.unsupported_reason();
    table.AddRow({NameCell(p.name()),
                  {std::string(KindWord(p.kind()))},
                  {Shape(p)},
                  NameCell(p.dtype()),
                  NameCell(p.device()),
                  {p.requires_grad() ? "yes" : "no"},
                  {HumanCount(p.numel())},
                  {HumanBytes(p.bytes())},
                  NameCell(p.module_type()),
                  NameCell(absl::StrJoin(p.aliases(), ", ")),
                  {sharded ? std::string(PlacementWord(p.placement())) : ""},
                  NameCell(note)});
  }
  table.DropEmptyColumns();
  return context.Write(
      absl::StrCat(table.Render(context.table_style()), "\n", Totals(answer)));
}

// What a node is: a module's type, a tensor's dtype, what an alias stands for.
std::string TypeText(const TreeNode& node) {
  switch (node.kind) {
    case TreeNode::Kind::kModule:
      return node.module_type;
    case TreeNode::Kind::kAlias:
      return "= " + node.parameter->name();
    case TreeNode::Kind::kParameter:
      return node.parameter->dtype() +
             (node.parameter->requires_grad() ? "" : ", frozen");
    case TreeNode::Kind::kBuffer:
      break;
  }
  return node.parameter->dtype() + ", buffer";
}

absl::Status WriteTree(const v1::ListParametersResponse& answer,
                       Context& context) {
  const TreeNode root = BuildModuleTree(answer);
  Table table({{"MODULE", Align::kLeft, true},
               {"TYPE", Align::kLeft, true},
               {"SHAPE"},
               {"PARAMETERS", Align::kRight},
               {"BUFFERS", Align::kRight},
               {"BYTES", Align::kRight}});
  const auto count = [](std::uint64_t n) {
    return n == 0 ? Cell{"-", Tone::kFaint} : Cell{HumanCount(n)};
  };
  for (const TreeLine& line : DrawTree(root, context.io().utf8)) {
    const TreeNode& node = *line.node;
    const bool module = node.kind == TreeNode::Kind::kModule;
    const bool alias = node.kind == TreeNode::Kind::kAlias;
    const bool is_root = &node == &root;
    const Tone tone = module ? Tone::kStrong : Tone::kPlain;
    table.AddRow(
        {{is_root ? "(model)" : line.prefix + EscapeForTerminal(node.name),
          tone},
         {EscapeForTerminal(TypeText(node)), alias ? Tone::kFaint : tone},
         {module || alias ? "" : Shape(*node.parameter)},
         alias ? Cell{} : count(node.parameter_numel),
         alias ? Cell{} : count(node.buffer_numel),
         alias ? Cell{} : Cell{HumanBytes(node.bytes)}});
  }
  return context.Write(
      absl::StrCat(table.Render(context.table_style()), "\n", Totals(answer)));
}

absl::Status WriteTreeCsv(const v1::ListParametersResponse& answer,
                          Context& context) {
  static constexpr const char* kKinds[] = {"module", "parameter", "buffer",
                                           "alias"};
  const TreeNode root = BuildModuleTree(answer);
  std::string text = CsvHeader(
      {"path", "node", "type", "parameter_numel", "buffer_numel", "bytes"},
      context.csv_options());
  CsvRow row(context.csv_options());
  for (const TreeLine& line : DrawTree(root, false)) {
    const TreeNode& node = *line.node;
    row.Text(node.path)
        .Text(kKinds[static_cast<int>(node.kind)])
        .Text(node.kind == TreeNode::Kind::kModule  ? node.module_type
              : node.kind == TreeNode::Kind::kAlias ? node.parameter->name()
                                                    : node.parameter->dtype())
        .Unsigned(node.parameter_numel)
        .Unsigned(node.buffer_numel)
        .Unsigned(node.bytes);
    text += row.Take();
  }
  return context.Write(text);
}

absl::Status WriteCsv(const v1::ListParametersResponse& answer,
                      Context& context) {
  std::string text = CsvHeader(
      {"run", "attempt", "rank", "name", "kind", "shape", "dtype", "device",
       "layout", "requires_grad", "numel", "bytes", "module_path",
       "module_type", "aliases", "placement", "unsupported_reason"},
      context.csv_options());
  CsvRow row(context.csv_options());
  for (const v1::Parameter& p : answer.parameters()) {
    row.Text(answer.run())
        .Unsigned(answer.attempt())
        .Unsigned(answer.rank())
        .Text(p.name())
        .Text(KindWord(p.kind()))
        .Text(Shape(p))
        .Text(p.dtype())
        .Text(p.device())
        .Text(p.layout())
        .Bool(p.requires_grad())
        .Unsigned(p.numel())
        .Unsigned(p.bytes())
        .Text(p.module_path())
        .Text(p.module_type())
        .Text(absl::StrJoin(p.aliases(), ";"))
        .Text(PlacementWord(p.placement()))
        .Text(p.unsupported_reason());
    text += row.Take();
  }
  return context.Write(text);
}

absl::Status Run(const ParamsOptions& options, Context& context) {
  const auto request = ToRequest(options);
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  v1::ListParametersResponse answer;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::ListParameters, *request, &answer);
  if (!status.ok()) return status;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(answer);
    case Format::kCsv:
      return options.tree ? WriteTreeCsv(answer, context)
                          : WriteCsv(answer, context);
    case Format::kTable:
      break;
  }
  return options.tree && !answer.parameters().empty()
             ? WriteTree(answer, context)
             : WriteTable(answer, context);
}

}  // namespace

Command AddParams(CLI::App& app) {
  auto options = std::make_shared<ParamsOptions>();
  AddRunArgument(app, options->run);
  AddMatchOption(app, options->match);
  app.add_flag("--tree", options->tree,
               "Draw the module hierarchy, with totals of each module");
  app.add_option("--kind", options->kinds, "Only these kinds; default: both")
      ->option_text("parameter,buffer")
      ->expected(1)
      ->take_all();
  app.add_option("--rank", options->rank, "The table of this rank; default 0")
      ->option_text("R");
  app.add_option("--attempt", options->attempt,
                 "The table of this attempt; default: the newest")
      ->option_text("K");
  app.footer(
      "Examples:\n"
      "  gradtap params fashion-mnist\n"
      "  gradtap params fashion-mnist --tree\n"
      "  gradtap params fashion-mnist --kind parameter --match 'weight$'");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
