# Many jobs in flight at once, their workloads 1, 2, 3 ...; prints each "workload result".
# perl many.pl SERVERS FUNCTION COUNT
use strict;
use warnings;
use Gearman::Client;

my ($servers, $function, $count) = @ARGV;
my $tasks = Gearman::Client->new(job_servers => [split /,/, $servers])->new_task_set;
for my $number (1 .. $count) {
    $tasks->add_task($function, \"$number", {
        on_complete => sub { print "$number ${ $_[0] }\n" },
    });
}
$tasks->wait;
