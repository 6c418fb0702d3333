# perl client.pl HOST:PORT FUNCTION < WORKLOAD
use strict;
use warnings;
use Gearman::Client;

my ($server, $function) = @ARGV;
my $client = Gearman::Client->new(job_servers => [$server]);
my $workload = do { local $/; <STDIN> };
my $result = $client->do_task($function, $workload // "");
die "the job failed\n" unless $result;
print $$result;
