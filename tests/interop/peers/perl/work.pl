# A worker: perl work.pl SERVERS (FUNCTION BEHAVIOUR LIMIT)...   LIMIT: milliseconds, 0 for none
use strict;
use warnings;
use Gearman::Worker;

my ($servers, @functions) = @ARGV;
my $worker = Gearman::Worker->new(job_servers => [split /,/, $servers]);
$| = 1;

my %behaviours = (
    echo  => sub { $_[0]->arg },
    print => sub { print $_[0]->arg, "\n"; "printed" },
    tell  => sub {
        my ($job) = @_;
        $worker->send_work_data($job, "first");
        $job->set_status(1, 2);
        $worker->send_work_warning($job, "careful");
        $worker->send_work_data($job, "second");
        $job->set_status(2, 2);
        return "told";
    },
    hold => sub {
        $_[0]->set_status(3, 7);
        print "held\n";
        <STDIN>;
        return "let go";
    },
    count => sub {
        my ($folder, $fails) = split / /, $_[0]->arg;
        my $own = "$folder/$$";
        open my $file, ">", $own or die;
        select undef, undef, undef, 0.001;
        opendir my $all, $folder or die;
        my $running = grep { !/^\./ } readdir $all;
        unlink $own;
        return $fails ? undef : $running;
    },
    fail   => sub { undef },
    except => sub { $worker->send_work_exception($_[0], "no such luck"); undef },
    die    => sub { die "no such luck\n" },
);
while (my ($function, $behaviour, $limit) = splice @functions, 0, 3) {
    $worker->register_function($function, $limit || (), $behaviours{$behaviour});
}
$worker->work while 1;
