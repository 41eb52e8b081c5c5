#include "master/cluster/commander.h"

#include <gtest/gtest.h>

namespace cairn::master {
namespace {

struct Sent {
  ServerId server;
  proto::Command command;
};

class CommanderTest : public ::testing::Test {
 protected:
  proto::ChunkCommand Query(uint64_t chunk) {
    proto::ChunkCommand command;
    command.set_chunk(chunk);
    command.mutable_query();
    return command;
  }
  Commander::Done Record(std::vector<StatusCode>* outcomes) {
    return [outcomes](const CommandOutcome& outcome) { outcomes->push_back(outcome.status.code()); };
  }

  std::vector<Sent> sent_;
  Commander commander_{{.max_batch = 3, .max_outstanding = 4},
                       [this](ServerId server, proto::MasterToChunkserver message) {
                         sent_.push_back({server, message.command()});
                       }};
};

TEST_F(CommanderTest, CommandsOfARoundTravelTogetherButSyncsAlone) {
  std::vector<StatusCode> outcomes;
  commander_.Send(ServerId(1), Query(1), 100, Record(&outcomes));
  proto::ChunkCommand sync;
  sync.set_chunk(2);
  sync.mutable_sync();
  commander_.Send(ServerId(1), sync, 100, Record(&outcomes));
  commander_.Send(ServerId(1), Query(3), 100, Record(&outcomes));
  commander_.Send(ServerId(1), Query(4), 100, Record(&outcomes));
  commander_.Flush();
  ASSERT_EQ(sent_.size(), 3u);
  EXPECT_EQ(sent_[0].command.chunks_size(), 1);
  EXPECT_TRUE(sent_[1].command.chunks(0).has_sync());
  EXPECT_EQ(sent_[2].command.chunks_size(), 2);
}

TEST_F(CommanderTest, AnswersFindTheirCallersInOrder) {
  std::vector<StatusCode> first, second;
  commander_.Send(ServerId(1), Query(1), 100, Record(&first));
  commander_.Send(ServerId(1), Query(2), 100, Record(&second));
  commander_.Flush();
  proto::CommandResult result;
  result.set_number(sent_[0].command.number());
  result.add_results();
  result.add_results()->mutable_status()->set_code(static_cast<uint32_t>(StatusCode::kUnknownChunk));
  commander_.OnResult(ServerId(2), result);
  EXPECT_TRUE(first.empty()) << "an answer of another server counts for nothing";
  commander_.OnResult(ServerId(1), result);
  EXPECT_EQ(first, std::vector<StatusCode>{StatusCode::kOk});
  EXPECT_EQ(second, std::vector<StatusCode>{StatusCode::kUnknownChunk});
  commander_.OnResult(ServerId(1), result);
  EXPECT_EQ(first.size(), 1u) << "a repeat counts for nothing";
}

TEST_F(CommanderTest, AShortResultFailsTheRest) {
  std::vector<StatusCode> outcomes;
  commander_.Send(ServerId(1), Query(1), 100, Record(&outcomes));
  commander_.Send(ServerId(1), Query(2), 100, Record(&outcomes));
  commander_.Flush();
  proto::CommandResult result;
  result.set_number(sent_[0].command.number());
  result.add_results();
  commander_.OnResult(ServerId(1), result);
  EXPECT_EQ(outcomes, (std::vector<StatusCode>{StatusCode::kOk, StatusCode::kMalformed}));
}

TEST_F(CommanderTest, DeadlinesAndDownServersEndTheWait) {
  std::vector<StatusCode> timed, down;
  commander_.Send(ServerId(1), Query(1), 100, Record(&timed));
  commander_.Send(ServerId(2), Query(2), 500, Record(&down));
  commander_.Flush();
  EXPECT_EQ(commander_.NextDeadline(), 100);
  commander_.Expire(100);
  EXPECT_EQ(timed, std::vector<StatusCode>{StatusCode::kTimeout});
  commander_.OnServerDown(ServerId(2), Status(StatusCode::kUnavailable, "down"));
  EXPECT_EQ(down, std::vector<StatusCode>{StatusCode::kUnavailable});
  EXPECT_EQ(commander_.outstanding(), 0u);
}

TEST_F(CommanderTest, WhatIsOutstandingIsBounded) {
  std::vector<StatusCode> outcomes;
  for (uint64_t i = 1; i <= 10; ++i) commander_.Send(ServerId(1), Query(i), 100, Record(&outcomes));
  commander_.Flush();
  int commands = 0;
  for (const Sent& one : sent_) commands += one.command.chunks_size();
  EXPECT_GE(commands, 4);
  EXPECT_LT(commands, 10);
  const size_t before = sent_.size();
  proto::CommandResult result;
  result.set_number(sent_[0].command.number());
  commander_.OnResult(ServerId(1), result);
  commander_.Flush();
  EXPECT_GT(sent_.size(), before) << "an answer makes room";
}

}  // namespace
}  // namespace cairn::master
